use knode_api::field::FieldError;
use serde_json::{Value, json};

use super::service::{fill, held};
use super::{Held, Pools};

fn of(cidrs: &[&str], ports: std::ops::RangeInclusive<u16>) -> Pools {
    let cidrs: Vec<ipnet::IpNet> = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
    Pools::new(&cidrs, ports)
}

fn pools() -> Pools {
    of(&["10.96.0.0/16"], 30000..=32767)
}

fn messages(result: Result<(), Vec<FieldError>>) -> Vec<String> {
    result
        .err()
        .into_iter()
        .flatten()
        .map(|error| error.to_string())
        .collect()
}

fn fill_new(pools: &mut Pools, service: &mut Value) -> Vec<String> {
    fill_changed(pools, service, &Value::Null)
}

fn fill_changed(pools: &mut Pools, service: &mut Value, old: &Value) -> Vec<String> {
    let families = pools.families();
    let settled = knode_kinds::ip_families::settle(service, old, &families);
    messages(settled.and_then(|()| fill(pools, service, &held(old), &mut Held::default())))
}

#[test]
fn a_service_gets_an_address_and_ports_of_its_own() {
    let mut pools = pools();
    let mut service =
        json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81}], "selector": {"a": "b"}}});
    assert_eq!(fill_new(&mut pools, &mut service), Vec::<String>::new());
    let got = held(&service);
    assert_eq!((got.addresses.len(), got.ports.len()), (1, 2));
    assert_eq!(service["spec"]["clusterIPs"][0], service["spec"]["clusterIP"]);
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]));
}

#[test]
fn what_cannot_be_had_is_told_as_upstream_does() {
    let mut pools = pools();
    let service = |spec: Value| json!({"spec": spec});
    let mut first = service(
        json!({"type": "NodePort", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80, "nodePort": 30999}]}),
    );
    assert_eq!(fill_new(&mut pools, &mut first), Vec::<String>::new());
    let cases = [
        (
            json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"]}),
            "spec.clusterIPs: Invalid value: [\"10.96.0.1\"]: failed to allocate IP 10.96.0.1: provided IP is already allocated",
        ),
        (
            json!({"clusterIP": "192.168.1.1", "clusterIPs": ["192.168.1.1"]}),
            "spec.clusterIPs: Invalid value: [\"192.168.1.1\"]: failed to allocate IP 192.168.1.1: the provided network does not match the current range",
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30999}]}),
            "spec.ports[0].nodePort: Invalid value: 30999: provided port is already allocated",
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
    ];
    for (spec, wanted) in cases {
        assert_eq!(fill_new(&mut pools, &mut service(spec)), [wanted]);
    }
}

#[test]
fn a_full_range_is_told_and_what_is_given_back_can_be_had_again() {
    let mut pools = of(&["10.0.0.0/30"], 30000..=30000);
    let service = || json!({"spec": {"type": "NodePort", "ports": [{"port": 1}]}});
    let mut one = service();
    assert_eq!(fill_new(&mut pools, &mut one), Vec::<String>::new());
    assert_eq!(fill_new(&mut pools, &mut service()).len(), 1);
    pools.give_back(&held(&one));
    assert_eq!(fill_new(&mut pools, &mut service()), Vec::<String>::new());
}

#[test]
fn two_families_get_an_address_each() {
    let mut pools = of(&["fd00:96::/112", "10.96.0.0/16"], 30000..=32767);
    let mut old = json!({"spec": {"ipFamilyPolicy": "RequireDualStack"}});
    assert_eq!(fill_new(&mut pools, &mut old), Vec::<String>::new());
    let addresses = held(&old).addresses;
    assert_eq!((addresses[0].is_ipv6(), addresses[1].is_ipv4()), (true, true));
    assert_eq!(old["spec"]["clusterIP"], addresses[0].to_string());

    let mut one = old.clone();
    one["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    assert_eq!(fill_changed(&mut pools, &mut one, &old), Vec::<String>::new());
    assert_eq!(held(&one).addresses, addresses[..1]);
    pools.give_back(&held(&old).without(&held(&one)));

    let mut again = one.clone();
    again["spec"]["ipFamilyPolicy"] = "PreferDualStack".into();
    again["spec"]["clusterIPs"] = json!([addresses[0].to_string(), addresses[1].to_string()]);
    assert_eq!(fill_changed(&mut pools, &mut again, &one), Vec::<String>::new());
    assert_eq!(held(&again).addresses, addresses);
    let mut third =
        json!({"spec": {"clusterIP": addresses[1].to_string(), "clusterIPs": [addresses[1].to_string()]}});
    let taken = format!(
        "spec.clusterIPs: Invalid value: [\"{0}\"]: failed to allocate IP {0}: provided IP is already allocated",
        addresses[1]
    );
    assert_eq!(fill_new(&mut pools, &mut third), [taken]);
}

#[test]
fn a_load_balancer_has_node_ports_unless_it_wants_none_and_one_for_its_health() {
    let mut pools = pools();
    let mut service = json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]}});
    assert_eq!(fill_new(&mut pools, &mut service), Vec::<String>::new());
    assert!(service["spec"]["ports"][0].get("nodePort").is_none());
    let health = service["spec"]["healthCheckNodePort"].as_u64().unwrap();
    assert_eq!(held(&service).ports, [u16::try_from(health).unwrap()]);
}
