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
    let read = |mapping: &str| parse(&ADD, &conf(mapping)).unwrap().conf.port_mappings();
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
    assert!(
        parse(&ADD, null)
            .unwrap()
            .conf
            .port_mappings()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn the_overlays_file_tells_the_subnet() {
    let text = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.65.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    let subnet = subnet_of(text).unwrap();
    assert_eq!(
        (subnet.ipv4.to_string().as_str(), subnet.mtu),
        ("172.30.65.0/24", 1450)
    );
    assert_eq!(subnet_of("FLANNEL_MTU=1450\n"), None);
}
