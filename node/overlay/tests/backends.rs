//! The backends that need no packets of ours, or that this kernel may lack; variants of VXLAN's device. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Cluster, Fabric, Host, eventually, ping};
use knode_netlink::{Handle, IpTunnel, LinkKind, Netns, add_ipip, add_wireguard, ethtool};
use knode_overlay::{
    Backend, BackendData, Config, ExtensionConf, NFT_TABLE, NetConf, Overlay, Rules, VxlanConf,
    WireguardConf, Wish,
};

const SOON: Duration = Duration::from_secs(5);

fn network() -> NetConf {
    NetConf::vxlan("172.30.0.0/16".parse().unwrap())
}

fn with(backend: Backend) -> NetConf {
    NetConf { backend, ..network() }
}

/// Whether this kernel has a kind of link.
fn has(make: knode_netlink::Request) -> bool {
    let netns = Netns::anonymous().unwrap();
    let made = Handle::open_in(&netns).unwrap().execute(make);
    !matches!(made, Err(knode_netlink::Error::Unsupported { .. }))
}

#[test]
fn alloc_leases_and_touches_nothing() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1, 2]));
    let (mut a, mut b) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    let subnet = a.start_ready(with(Backend::Alloc), cluster.store(1));
    b.start_ready(with(Backend::Alloc), cluster.store(2));
    assert_eq!(
        (subnet.ipv4.to_string().as_str(), subnet.mtu),
        ("172.30.1.0/24", 1500)
    );
    assert_eq!(cluster.attributes(1).unwrap().backend, BackendData::Alloc);
    let links = a.links.links().unwrap();
    assert_eq!(links.len(), 2, "lo and eth0: {links:?}");
    assert_eq!(a.destinations("eth0").len(), 2);
    assert!(a.subnet_env().is_some());
}

/// Upstream's documented example of VXLAN by commands, with the link that it goes over named, as it must be for
/// devices in namespaces.
fn vxlan_by_commands() -> ExtensionConf {
    ExtensionConf {
        pre_startup: "ip link add flannel-vxlan type vxlan id 9 dstport 8472 dev eth0 local \
                      $(ip -o -4 address show dev eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/') nolearning \
                      && cat /proc/self/net/dev | grep -q flannel-vxlan \
                      && ip -o link show flannel-vxlan | sed 's/.*ether \\([0-9a-f:]*\\).*/\\1/'"
            .into(),
        post_startup: "export SUBNET_IP=$(echo \"$SUBNET\" | cut -d'/' -f 1); \
                       ip addr add \"${SUBNET_IP}/32\" dev flannel-vxlan && ip link set flannel-vxlan up"
            .into(),
        subnet_add: "export SUBNET_IP=$(echo \"$SUBNET\" | cut -d'/' -f 1); read VTEP; \
                     ip route add \"$SUBNET\" nexthop via \"$SUBNET_IP\" dev flannel-vxlan onlink \
                     && ip neigh replace \"$SUBNET_IP\" dev flannel-vxlan lladdr \"$VTEP\" \
                     && bridge fdb add \"$VTEP\" dev flannel-vxlan self dst \"$PUBLIC_IP\""
            .into(),
        subnet_remove: "ip route del \"$SUBNET\"".into(),
        shutdown: String::new(),
    }
}

#[test]
fn an_extension_carries_packets_by_upstreams_example() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1, 2]));
    let (mut a, mut b) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    let conf = with(Backend::Extension(vxlan_by_commands()));
    let one = a.start_ready(conf.clone(), cluster.store(1));
    let two = b.start_ready(conf, cluster.store(2));
    let Some(BackendData::Extension(Some(said))) = cluster.attributes(1).map(|a| a.backend) else {
        panic!("{:?}", cluster.attributes(1))
    };
    let mac = a.links.link("flannel-vxlan").unwrap().unwrap().mac.unwrap();
    assert_eq!(said, mac.to_string());
    let (here, there) = (a.pod(one, 2), b.pod(two, 2));
    let brief = Duration::from_millis(200);
    eventually(
        "an answer",
        SOON,
        || ping(&here.netns, there.ip.into(), 1000, brief),
        || format!("{:?}", a.destinations("flannel-vxlan")),
    );
    cluster.remove(2);
    let gone = || a.destinations("flannel-vxlan").is_empty().then_some(());
    eventually("the removal", SOON, gone, || {
        format!("{:?}", a.destinations("flannel-vxlan"))
    });
}

#[test]
fn an_extensions_first_command_must_succeed() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1]));
    let host = Host::new(&fabric, 1);
    let commands = ExtensionConf {
        pre_startup: "echo out of order >&2; exit 7".into(),
        ..ExtensionConf::default()
    };
    let why = host.run_to_end(with(Backend::Extension(commands)), cluster.store(1));
    assert!(why.contains("exit status: 7: out of order"), "{why}");
    assert_eq!(cluster.attributes(1), None, "no lease is taken");
}

#[test]
fn an_extensions_last_command_runs_at_the_end() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1]));
    let host = Host::new(&fabric, 1);
    std::fs::create_dir_all(&host.directory).unwrap();
    let mark = host.directory.join("ended");
    let commands = ExtensionConf {
        shutdown: format!("touch {}", mark.display()),
        ..ExtensionConf::default()
    };
    let (config, store) = (host.config(with(Backend::Extension(commands))), cluster.store(1));
    let end = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let overlay = Overlay::open(config, store).unwrap();
            overlay.shutdown().await.unwrap();
        });
    };
    let inside = || std::thread::scope(|scope| scope.spawn(end).join().unwrap());
    host.netns.run(inside).unwrap();
    assert!(mark.exists());
}

#[test]
fn ipip_works_or_is_refused_with_the_reason() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1, 2]));
    let (mut a, mut b) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    let conf = with(Backend::Ipip {
        direct_routing: false,
    });
    if !has(add_ipip(
        "probe",
        &IpTunnel {
            local: Some([192, 0, 2, 1].into()),
            remote: None,
        },
    )) {
        let why = a.run_to_end(conf, cluster.store(1));
        assert_eq!(
            why,
            "backend ipip on this kernel, which has no ipip device (CONFIG_NET_IPIP) is not supported"
        );
        assert_eq!(cluster.attributes(1), None, "no lease is taken");
        return;
    }
    let subnets = [(&mut a, 1), (&mut b, 2)].map(|(h, n)| h.start_ready(conf.clone(), cluster.store(n)));
    assert_eq!(subnets[0].mtu, 1480);
    let (here, there) = (a.pod(subnets[0], 2), b.pod(subnets[1], 2));
    let brief = Duration::from_millis(200);
    let answer = || ping(&here.netns, there.ip.into(), 1480, brief);
    eventually("an answer", SOON, answer, || {
        format!("{:?}", a.destinations("flannel.ipip"))
    });
}

#[test]
fn wireguard_works_or_is_refused_with_the_reason() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1, 2]));
    let (mut a, mut b) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    let conf = with(Backend::Wireguard(WireguardConf::default()));
    if !has(add_wireguard("probe", 1420)) {
        let why = a.run_to_end(conf, cluster.store(1));
        assert_eq!(
            why,
            "backend wireguard on this kernel, which has no WireGuard device (CONFIG_WIREGUARD) is not supported"
        );
        assert_eq!(cluster.attributes(1), None, "no lease is taken");
        return;
    }
    let subnets = [(&mut a, 1), (&mut b, 2)].map(|(h, n)| h.start_ready(conf.clone(), cluster.store(n)));
    assert_eq!(subnets[0].mtu, 1420);
    let (here, there) = (a.pod(subnets[0], 2), b.pod(subnets[1], 2));
    let brief = Duration::from_millis(200);
    let answer = || ping(&here.netns, there.ip.into(), 1420, brief);
    eventually("an answer", SOON, answer, || {
        format!("{:?}", a.destinations("flannel-wg"))
    });
}

#[test]
fn other_backends_are_refused_with_a_pointer() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1]));
    let host = Host::new(&fabric, 1);
    let why = |conf: NetConf| host.run_to_end(conf, cluster.store(1));
    let udp = why(NetConf::parse(r#"{"Network":"172.30.0.0/16"}"#).unwrap());
    assert!(
        udp.contains("backend udp") && udp.contains(r#"{"Type":"vxlan"}"#),
        "{udp}"
    );
    assert_eq!(
        why(with(Backend::Other("tencent-vpc".into()))),
        "backend tencent-vpc is not supported"
    );
    let six = with(Backend::Ipip {
        direct_routing: false,
    });
    let six = six.with_ipv6("fd00::/48".parse().unwrap());
    assert_eq!(why(six), "IPv6 through backend ipip is not supported");
}

#[test]
fn host_gw_behind_nat_is_refused() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1]));
    let host = Host::new(&fabric, 1);
    let wish = Wish {
        public_ip: Some([203, 0, 113, 1].into()),
        ..Wish::default()
    };
    let config = Config {
        wish,
        ..host.config(with(Backend::HostGw))
    };
    let why = host.run_config_to_end(config, cluster.store(1));
    assert_eq!(
        why,
        "backend host-gw behind NAT (203.0.113.1 is not the interface's address) is not supported"
    );
}

#[test]
fn ipv6_needs_an_address_for_others() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1]));
    let host = Host::new(&fabric, 1);
    let index = host.links.link("eth0").unwrap().unwrap().index;
    let six = host.links.addresses(Some(index)).unwrap();
    for address in six.iter().filter(|a| a.net.to_string().starts_with("2001:")) {
        host.links
            .execute(knode_netlink::delete_address(address))
            .unwrap();
    }
    let why = host.run_to_end(
        network().with_ipv6("fd00::/48".parse().unwrap()),
        cluster.store(1),
    );
    assert_eq!(why, "choose the interface to the other nodes");
}

#[test]
fn group_policy_and_mtu_are_the_devices() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1]));
    let mut host = Host::new(&fabric, 1);
    let conf = |gbp, mtu| {
        with(Backend::Vxlan(VxlanConf {
            vni: 7,
            port: 4789,
            gbp,
            mtu,
            ..VxlanConf::default()
        }))
    };
    let subnet = host.start_ready(conf(true, Some(1400)), cluster.store(1));
    assert_eq!(subnet.mtu, 1350, "what is wished is the wrapped packet's");
    let device = |host: &Host| {
        let link = host.links.link("flannel.7").unwrap().unwrap();
        let LinkKind::Vxlan(vxlan) = link.kind else {
            panic!("{link:?}")
        };
        (vxlan.vni, vxlan.port, vxlan.gbp, link.mtu, link.index)
    };
    let before = device(&host);
    assert_eq!((before.0, before.1, before.2, before.3), (7, 4789, true, 1350));
    host.kill();
    host.start_ready(conf(true, Some(1400)), cluster.store(1));
    assert_eq!(device(&host), before, "it agrees and stays");
    host.kill();
    host.start_ready(conf(false, None), cluster.store(1));
    let after = device(&host);
    assert_eq!((after.2, after.3), (false, 1450));
    assert_ne!(after.4, before.4, "it is made anew");
}

#[test]
fn checksums_are_the_kernels_only_behind_nat() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1]));
    let mut host = Host::new(&fabric, 1);
    host.start_ready(network(), cluster.store(1));
    let offloaded = |host: &Host| {
        host.netns
            .run(|| ethtool::tx_checksum("flannel.1").unwrap())
            .unwrap()
    };
    assert!(offloaded(&host), "the link's, as always");
    host.kill();
    let wish = Wish {
        public_ip: Some([203, 0, 113, 1].into()),
        ..Wish::default()
    };
    let config = Config {
        wish,
        ..host.config(network())
    };
    let told = host.start_with(config, cluster.store(1));
    eventually("the subnet", SOON, || *told.borrow(), String::new);
    assert!(!offloaded(&host), "turned off behind NAT");
    assert_eq!(
        cluster.attributes(1).unwrap().public_ip.to_string(),
        "203.0.113.1"
    );
}

#[test]
fn rules_can_be_had_otherwise() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1]));
    let mut host = Host::new(&fabric, 1);
    let rules = Rules {
        forward: false,
        random_ports: false,
    };
    let told = host.start_ruled(network(), cluster.store(1), rules);
    eventually("the subnet", SOON, || *told.borrow(), String::new);
    assert_eq!(host.rules(), 4, "masquerading alone");
    let listed = host.netns.run(|| {
        let output = std::process::Command::new("nft")
            .args(["list", "table", "ip", NFT_TABLE])
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    });
    let listed = listed.unwrap();
    assert!(
        listed.contains("masquerade") && !listed.contains("random"),
        "{listed}"
    );
}
