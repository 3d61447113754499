use knode_netlink::generic::wireguard::Key;

use super::*;

fn problem(text: &str) -> String {
    NetConf::parse(text).unwrap_err().to_string()
}

fn backend(text: &str) -> Backend {
    let text = format!(r#"{{"Network":"10.0.0.0/16","Backend":{text}}}"#);
    NetConf::parse(&text).unwrap().backend
}

#[test]
fn the_usual_configuration() {
    let conf =
        NetConf::parse(r#"{"Network":"172.30.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#);
    assert_eq!(conf.unwrap(), NetConf::vxlan("172.30.0.0/16".parse().unwrap()));
}

#[test]
fn without_a_backend_it_is_udp() {
    let conf = NetConf::parse(r#"{"Network":"172.30.0.0/16","SubnetLen":24}"#).unwrap();
    assert_eq!(conf.backend, Backend::Other("udp".into()));
}

#[test]
fn dual_stack_as_upstream_documents_it() {
    let text = r#"{
        "Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fc00:1::/48",
        "Backend": {"Type": "vxlan"}
    }"#;
    let conf = NetConf::parse(text).unwrap();
    let want = NetConf::vxlan("10.244.0.0/16".parse().unwrap());
    assert_eq!(conf, want.with_ipv6("fc00:1::/48".parse().unwrap()));
    assert_eq!(conf.ipv6.unwrap().subnet_len, 64);
    let text = r#"{"Network":"10.0.0.0/8","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetLen":64,
        "IPv6SubnetMin":"fc00:0:0:1::","IPv6SubnetMax":"fc00:0:0:f::","Backend":{"Type":"host-gw"}}"#;
    let ipv6 = NetConf::parse(text).unwrap().ipv6.unwrap();
    assert_eq!(ipv6.subnet_min, Some("fc00:0:0:1::".parse().unwrap()));
    assert_eq!(ipv6.subnet_max, Some("fc00:0:0:f::".parse().unwrap()));
    let off = r#"{"Network":"10.0.0.0/8","IPv6Network":"fc00::/48","Backend":{"Type":"host-gw"}}"#;
    assert_eq!(NetConf::parse(off).unwrap().ipv6, None);
}

#[test]
fn lengths_are_upstreams_where_none_is_given() {
    let of = |network: &str| default_length(network.parse().unwrap());
    let lengths = ["10.0.0.0/16", "10.0.0.0/22", "10.0.0.0/23", "10.0.0.0/28"].map(of);
    assert_eq!(lengths, [24, 24, 25, 30]);
    let lengths = ["fc00::/48", "fc00::/62", "fc00::/63", "fc00::/124"].map(of);
    assert_eq!(lengths, [64, 64, 65, 126]);
}

#[test]
fn names_may_be_written_in_any_case() {
    let conf = NetConf::parse(
        r#"{"network":"10.0.0.0/16","BACKEND":{"type":"vxlan","vni":7,"PORT":4789,"directrouting":true,"Gbp":true}}"#,
    );
    let want = VxlanConf {
        vni: 7,
        port: 4789,
        direct_routing: true,
        gbp: true,
        ..VxlanConf::default()
    };
    assert_eq!(conf.unwrap().backend, Backend::Vxlan(want));
}

#[test]
fn every_backend_of_upstreams_is_known() {
    assert_eq!(
        backend(r#"{"Type":"ipip","DirectRouting":true}"#),
        Backend::Ipip { direct_routing: true }
    );
    assert_eq!(backend(r#"{"Type":"alloc"}"#), Backend::Alloc);
    assert_eq!(
        backend(r#"{"Type":"wireguard"}"#),
        Backend::Wireguard(WireguardConf::default())
    );
    let psk = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let want = WireguardConf {
        port: 1,
        port_v6: 2,
        mtu: Some(1400),
        preshared: Some(Key([7; 32])),
        keepalive: 25,
        mode: WireguardMode::Auto,
    };
    let text = format!(
        r#"{{"Type":"wireguard","ListenPort":1,"ListenPortV6":2,"MTU":1400,"PSK":"{psk}","PersistentKeepaliveInterval":25,"Mode":"auto"}}"#
    );
    assert_eq!(backend(&text), Backend::Wireguard(want));
    let Backend::Extension(commands) =
        backend(r#"{"Type":"extension","SubnetAddCommand":"ip route add $SUBNET"}"#)
    else {
        panic!("it is an extension")
    };
    assert_eq!(commands.subnet_add, "ip route add $SUBNET");
    assert_eq!(commands.pre_startup, "");
    assert_eq!(
        backend(r#"{"Type":"tencent-vpc"}"#),
        Backend::Other("tencent-vpc".into())
    );
}

#[test]
fn nonsense_names_the_field() {
    assert!(problem(r#"{"Backend":{"Type":"vxlan"}}"#).contains("Network"));
    assert!(
        problem(r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48"}"#).contains("EnableIPv4")
    );
    assert!(problem(r#"{"Network":"10.0.0.0/16","EnableIPv6":true}"#).contains("IPv6Network is missing"));
    for length in [16, 17, 31] {
        let text = format!(r#"{{"Network":"10.0.0.0/16","SubnetLen":{length}}}"#);
        assert!(problem(&text).contains(&format!("SubnetLen {length} does not divide")));
    }
    let small = r#"{"Network":"10.0.0.0/8","EnableIPv6":true,"IPv6Network":"fc00::/125"}"#;
    assert!(problem(small).contains("IPv6SubnetLen"));
    assert!(
        problem(r#"{"Network":"10.0.0.0/16","SubnetMin":"10.1.0.0"}"#).contains("SubnetMin lies outside")
    );
    assert!(
        problem(r#"{"Network":"10.0.0.0/16","SubnetMax":"10.0.7.1"}"#)
            .contains("SubnetMax 10.0.7.1 is not where a subnet begins")
    );
    let of = |backend: &str| problem(&format!(r#"{{"Network":"10.0.0.0/16","Backend":{backend}}}"#));
    assert!(of(r#"{"Type":"vxlan","VNI":16777216}"#).contains("Backend.VNI"));
    assert!(of(r#"{"Type":"wireguard","PSK":"short"}"#).contains("Backend.PSK"));
    assert!(of(r#"{"Type":"wireguard","Mode":"both"}"#).contains("Backend.Mode"));
}

#[test]
fn how_subnets_are_divided_counts_only_where_nodes_choose_them() {
    for text in [
        r#"{"Network":"10.0.0.0/29","Backend":{"Type":"vxlan"}}"#,
        r#"{"Network":"10.0.0.0/16","SubnetLen":16,"Backend":{"Type":"vxlan"}}"#,
        r#"{"Network":"10.0.0.0/16","SubnetMin":"10.1.0.0","Backend":{"Type":"vxlan"}}"#,
        r#"{"Network":"10.0.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/126","Backend":{"Type":"vxlan"}}"#,
    ] {
        problem(text);
        let conf = NetConf::parse_assigned(text).unwrap();
        assert_eq!((conf.subnet_min, conf.subnet_max), (None, None), "{text}");
        assert_eq!(conf.backend, Backend::Vxlan(VxlanConf::default()));
    }
    for (text, field) in [
        (r#"{"Network":"0.0.0.0/0"}"#, "Network is empty"),
        (
            r#"{"Network":"10.0.0.0/8","EnableIPv6":true,"IPv6Network":"::/0"}"#,
            "IPv6Network is empty",
        ),
    ] {
        let assigned = NetConf::parse_assigned(text).unwrap_err().to_string();
        assert!(assigned.contains(field), "{assigned}");
        assert_eq!(problem(text), assigned);
    }
    // As k3s writes it.
    let unused =
        r#"{"Network":"10.42.0.0/16","EnableIPv6":false,"IPv6Network":"::/0","Backend":{"Type":"vxlan"}}"#;
    assert_eq!(NetConf::parse_assigned(unused).unwrap().ipv6, None);
}
