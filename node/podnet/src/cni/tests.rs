use super::call::{Call, Command, subnet_of};
use super::error::CniError;

const CONF: &str = r#"{"cniVersion":"1.1.0","name":"pods","type":"knode"}"#;

fn parse(env: &[(&str, &str)], input: &str) -> Result<Call, CniError> {
    let get = |key: &str| env.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned());
    Call::parse(get, input.as_bytes())
}

fn code(env: &[(&str, &str)], input: &str) -> u32 {
    parse(env, input).unwrap_err().code
}

const ADD: [(&str, &str); 4] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/c1"),
    ("CNI_IFNAME", "eth0"),
];

#[test]
fn what_is_asked_is_understood() {
    let call = parse(&ADD, CONF).unwrap();
    let Command::Add(attached) = &call.command else {
        panic!("{call:?}");
    };
    assert_eq!(
        (attached.id().as_str(), call.conf.bridge.as_str()),
        ("c1/eth0", "cni0")
    );
    let gone = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", ""),
    ];
    assert!(matches!(parse(&gone, CONF).unwrap().command, Command::Delete(a) if a.netns.is_none()));
    assert_eq!(
        parse(&[("CNI_COMMAND", "VERSION")], "").unwrap().command,
        Command::Version
    );
}

#[test]
fn what_makes_no_sense_has_the_specifications_number() {
    assert_eq!(code(&[], CONF), CniError::ENVIRONMENT);
    assert_eq!(code(&[("CNI_COMMAND", "DANCE")], CONF), CniError::ENVIRONMENT);
    for at in 1..4 {
        let mut env = ADD.to_vec();
        env.remove(at);
        assert_eq!(code(&env, CONF), CniError::ENVIRONMENT, "{env:?}");
    }
    let mut env = ADD;
    env[1].1 = "../c1";
    assert_eq!(code(&env, CONF), CniError::ENVIRONMENT);
    assert_eq!(code(&ADD, "{"), CniError::DECODE);
    assert_eq!(code(&ADD, r#"{"cniVersion":"1.1.0"}"#), CniError::CONFIG);
    assert_eq!(
        code(&ADD, r#"{"cniVersion":"2.0.0","name":"pods"}"#),
        CniError::VERSION
    );
    let old = r#"{"cniVersion":"1.0.0","name":"pods"}"#;
    assert_eq!(code(&[("CNI_COMMAND", "GC")], old), CniError::VERSION);
}

#[test]
fn ports_are_read() {
    let conf = |mapping: &str| {
        format!(r#"{{"cniVersion":"1.1.0","name":"p","runtimeConfig":{{"portMappings":[{mapping}]}}}}"#)
    };
    let read = |mapping: &str| {
        parse(&ADD, &conf(mapping))
            .unwrap()
            .conf
            .runtime_config
            .port_mappings()
    };
    let ports =
        read(r#"{"hostPort":8080,"containerPort":80,"protocol":"UDP","hostIP":"192.0.2.1"}"#).unwrap();
    assert_eq!((ports[0].host_port, ports[0].container_port), (8080, 80));
    assert_eq!(ports[0].protocol, crate::Protocol::Udp);
    assert_eq!(ports[0].host_ip, Some("192.0.2.1".parse().unwrap()));
    assert_eq!(
        read(r#"{"hostPort":70000,"containerPort":80}"#).unwrap_err().code,
        CniError::CONFIG
    );
    let null = r#"{"cniVersion":"1.1.0","name":"p","runtimeConfig":{"portMappings":null}}"#;
    let conf = parse(&ADD, null).unwrap().conf;
    assert!(conf.runtime_config.port_mappings().unwrap().is_empty());
    let capital = r#"{"HostPort":8080,"ContainerPort":80,"Protocol":"tcp","HostIP":""}"#;
    assert_eq!(
        read(capital).unwrap()[0].host_port,
        8080,
        "as containerd writes it"
    );
    let unmapped = read(r#"{"hostPort":0,"containerPort":80}"#).unwrap();
    assert!(unmapped.is_empty(), "a port that is only declared");
}

#[test]
fn what_the_engine_wants_for_one_container_is_read() {
    let conf = |asked: &str| format!(r#"{{"cniVersion":"1.1.0","name":"p","runtimeConfig":{asked}}}"#);
    let read = |asked: &str| parse(&ADD, &conf(asked)).unwrap().conf.runtime_config;
    let asked = read(
        r#"{"ips":["10.1.2.3/24","fd00::3"],"mac":"0A:58:01:02:03:04",
            "bandwidth":{"ingressRate":8000,"ingressBurst":16000,"egressRate":0,"egressBurst":0}}"#,
    );
    let ips: Vec<_> = asked.ips().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["10.1.2.3", "fd00::3"]);
    assert_eq!(asked.mac().unwrap().unwrap().to_string(), "0a:58:01:02:03:04");
    let bandwidth = asked.bandwidth().unwrap();
    let ingress = bandwidth.ingress.unwrap();
    assert_eq!(
        (ingress.bits_per_second, ingress.burst_bits),
        (8000, Some(16_000))
    );
    assert_eq!(bandwidth.egress, None);

    assert_eq!(
        read(r#"{"ips":["nowhere"]}"#).ips().unwrap_err().code,
        CniError::CONFIG
    );
    assert_eq!(
        read(r#"{"mac":"nobody"}"#).mac().unwrap_err().code,
        CniError::CONFIG
    );
    let half = read(r#"{"bandwidth":{"egressRate":8000}}"#);
    assert_eq!(half.bandwidth().unwrap_err().code, CniError::CONFIG);
}

#[test]
fn each_network_has_leases_of_its_own() {
    let call = parse(&ADD, CONF).unwrap();
    assert_eq!(call.conf.data_dir().to_str(), Some("/var/lib/cni/networks/pods"));
    let bad = r#"{"cniVersion":"1.1.0","name":"../pods"}"#;
    assert_eq!(code(&ADD, bad), CniError::CONFIG);
}

#[test]
fn the_overlays_file_tells_the_subnet() {
    let text = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.65.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    let told = subnet_of(text).unwrap();
    assert!(told.masqueraded);
    assert_eq!(told.networks, ["172.30.0.0/16".parse().unwrap()]);
    let subnet = told.subnet;
    assert_eq!(
        subnet.ipv4.map(|net| net.to_string()).as_deref(),
        Some("172.30.65.0/24")
    );
    assert_eq!((subnet.ipv6, subnet.mtu), (None, 1450));
    assert_eq!(subnet_of("FLANNEL_MTU=1450\n"), None);
    let dual = format!("{text}FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:65::1/64\n");
    let ipv6 = subnet_of(&dual).unwrap().subnet.ipv6.unwrap();
    assert_eq!(ipv6.to_string(), "fd00:0:0:65::/64");
    let only = "FLANNEL_IPV6_SUBNET=fd00:0:0:65::1/64\nFLANNEL_MTU=1430\n";
    assert_eq!(subnet_of(only).unwrap().subnet.ipv4, None);
    assert!(!subnet_of(only).unwrap().masqueraded);
    assert_eq!(
        subnet_of("FLANNEL_SUBNET=x\nFLANNEL_IPV6_SUBNET=fd00::1/64\nFLANNEL_MTU=1430\n"),
        None
    );
}
