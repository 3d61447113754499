use knode_api::field::FieldError;
use serde_json::{Value, json};

use super::service::{fill, held, keep_allocated};
use super::{Held, Pools};

fn pools() -> Pools {
    Pools::new("10.96.0.0/16".parse().unwrap(), 30000..=32767)
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
    messages(fill(pools, service, &Held::default(), &mut Held::default()))
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
        json!({"type": "NodePort", "clusterIP": "10.96.0.1", "ports": [{"port": 80, "nodePort": 30999}]}),
    );
    assert_eq!(fill_new(&mut pools, &mut first), Vec::<String>::new());
    let cases = [
        (
            json!({"clusterIP": "10.96.0.1"}),
            "spec.clusterIPs: Invalid value: [\"10.96.0.1\"]: failed to allocate IP 10.96.0.1: provided IP is already allocated",
        ),
        (
            json!({"clusterIP": "192.168.1.1"}),
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
    let mut pools = Pools::new("10.0.0.0/30".parse().unwrap(), 30000..=30000);
    let service = || json!({"spec": {"type": "NodePort", "ports": [{"port": 1}]}});
    let mut one = service();
    assert_eq!(fill_new(&mut pools, &mut one), Vec::<String>::new());
    assert_eq!(fill_new(&mut pools, &mut service()).len(), 1);
    pools.give_back(&held(&one));
    assert_eq!(fill_new(&mut pools, &mut service()), Vec::<String>::new());
}

#[test]
fn an_update_keeps_what_it_leaves_out() {
    let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}});
    let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}});
    keep_allocated(&mut new, &old);
    assert_eq!(held(&new), held(&old));
}
