//! Virtual packets through the planned ruleset.

mod common;

use common::fixture::{add, config, ready, service, slice};
use common::tracer::{Outcome, Packet, Tracer};
use knode_proxy::model::{Model, Protocol, SliceEndpoint, State};

const NODE: &str = "192.0.2.1";
const POD: &str = "10.244.0.9";
const OUTSIDE: &str = "198.51.100.7";

fn to(address: &str, port: u16, masqueraded: bool) -> Outcome {
    Outcome::To {
        address: address.parse().expect("address"),
        port,
        masqueraded,
    }
}

fn tracer(model: &Model) -> Tracer {
    Tracer::new(&config(), model, &[NODE, "10.244.0.1"])
}

fn web(model: &mut Model, endpoints: &[&str]) {
    let slice = slice(Protocol::Tcp, 8080, endpoints);
    add(
        model,
        "a/web",
        service("10.96.0.10", Protocol::Tcp, 80, 30080),
        slice,
    );
}

#[test]
fn a_cluster_address_leads_to_every_endpoint_and_keeps_the_pods_source() {
    let mut model = Model::default();
    web(&mut model, &["10.244.0.2", "10.244.1.2", "10.244.1.3"]);
    let mut tracer = tracer(&model);
    for (draw, endpoint) in ["10.244.0.2", "10.244.1.2", "10.244.1.3"].into_iter().enumerate() {
        tracer.draw = draw as u32;
        assert_eq!(
            tracer.receive(Packet::tcp(POD, "10.96.0.10", 80)),
            to(endpoint, 8080, false)
        );
    }
    assert_eq!(
        tracer.send(Packet::tcp(NODE, "10.96.0.10", 80)),
        to("10.244.1.3", 8080, true),
        "the host is outside"
    );
}

#[test]
fn a_node_port_leads_to_an_endpoint_under_the_nodes_address() {
    let mut model = Model::default();
    web(&mut model, &["10.244.1.2"]);
    let mut tracer = tracer(&model);
    let expected = to("10.244.1.2", 8080, true);
    assert_eq!(tracer.receive(Packet::tcp(OUTSIDE, NODE, 30080)), expected);
    assert_eq!(tracer.receive(Packet::tcp(POD, "10.244.0.1", 30080)), expected);
    assert_eq!(tracer.send(Packet::tcp(NODE, NODE, 30080)), expected);
    assert_eq!(
        tracer.send(Packet::tcp("127.0.0.1", "127.0.0.1", 30080)),
        to("127.0.0.1", 30080, false)
    );
    assert_eq!(
        tracer.receive(Packet::tcp(OUTSIDE, "192.0.2.9", 30080)),
        to("192.0.2.9", 30080, false),
        "passing by"
    );
}

#[test]
fn an_endpoint_that_reaches_itself_sees_another_source() {
    let mut model = Model::default();
    web(&mut model, &["10.244.0.2"]);
    let mut tracer = tracer(&model);
    assert_eq!(
        tracer.receive(Packet::tcp("10.244.0.2", "10.96.0.10", 80)),
        to("10.244.0.2", 8080, true)
    );
    assert_eq!(
        tracer.receive(Packet::tcp(POD, "10.96.0.10", 80)),
        to("10.244.0.2", 8080, false)
    );
    assert_eq!(
        tracer.receive(Packet::tcp(POD, "10.244.0.2", 8080)),
        to("10.244.0.2", 8080, false),
        "no service"
    );
}

#[test]
fn what_has_no_endpoint_is_refused_at_once() {
    let mut model = Model::default();
    web(&mut model, &[]);
    let mut tracer = tracer(&model);
    assert_eq!(
        tracer.receive(Packet::tcp(POD, "10.96.0.10", 80)),
        Outcome::Rejected
    );
    assert_eq!(
        tracer.send(Packet::tcp(NODE, "10.96.0.10", 80)),
        Outcome::Rejected
    );
    assert_eq!(
        tracer.receive(Packet::tcp(OUTSIDE, NODE, 30080)),
        Outcome::Rejected
    );
    assert_eq!(
        tracer.receive(Packet::tcp(POD, "10.96.0.10", 81)),
        Outcome::Rejected,
        "a port that no service has"
    );
    assert_eq!(
        tracer.receive(Packet::tcp(OUTSIDE, NODE, 22)),
        to(NODE, 22, false),
        "the host's own port"
    );
}

#[test]
fn traffic_kept_on_the_node_keeps_its_source() {
    let mut model = Model::default();
    let mut local = service("10.96.0.10", Protocol::Tcp, 80, 30080);
    local.external_local = true;
    add(
        &mut model,
        "a/web",
        local,
        slice(Protocol::Tcp, 8080, &["10.244.0.2", "10.244.1.2"]),
    );
    let mut tracer = tracer(&model);
    for draw in 0..2 {
        tracer.draw = draw;
        assert_eq!(
            tracer.receive(Packet::tcp(OUTSIDE, NODE, 30080)),
            to("10.244.0.2", 8080, false)
        );
    }
    assert_eq!(
        tracer.receive(Packet::tcp(POD, NODE, 30080)),
        to("10.244.1.2", 8080, false),
        "from inside: all"
    );
    assert_eq!(
        tracer.send(Packet::tcp(NODE, NODE, 30080)),
        to("10.244.1.2", 8080, true)
    );
}

#[test]
fn traffic_kept_on_a_node_without_endpoints_is_dropped() {
    let mut model = Model::default();
    let mut local = service("10.96.0.10", Protocol::Tcp, 80, 30080);
    (local.external_local, local.internal_local) = (true, true);
    add(
        &mut model,
        "a/web",
        local,
        slice(Protocol::Tcp, 8080, &["10.244.1.2"]),
    );
    let mut tracer = tracer(&model);
    assert_eq!(
        tracer.receive(Packet::tcp(OUTSIDE, NODE, 30080)),
        Outcome::Dropped
    );
    assert_eq!(
        tracer.receive(Packet::tcp(POD, NODE, 30080)),
        to("10.244.1.2", 8080, false)
    );
    assert_eq!(
        tracer.receive(Packet::tcp(POD, "10.96.0.10", 80)),
        Outcome::Dropped
    );
}

#[test]
fn a_client_keeps_its_endpoint() {
    let mut model = Model::default();
    let mut sticky = service("10.96.0.10", Protocol::Tcp, 80, 30080);
    sticky.affinity = Some(600);
    add(
        &mut model,
        "a/web",
        sticky,
        slice(Protocol::Tcp, 8080, &["10.244.0.2", "10.244.1.2"]),
    );
    let mut tracer = tracer(&model);
    tracer.draw = 1;
    assert_eq!(
        tracer.receive(Packet::tcp(POD, "10.96.0.10", 80)),
        to("10.244.1.2", 8080, false)
    );
    assert_eq!(
        tracer.receive(Packet::tcp(OUTSIDE, NODE, 30080)),
        to("10.244.1.2", 8080, true)
    );
    tracer.draw = 0;
    assert_eq!(
        tracer.receive(Packet::tcp(POD, "10.96.0.10", 80)),
        to("10.244.1.2", 8080, false)
    );
    assert_eq!(
        tracer.receive(Packet::tcp(OUTSIDE, NODE, 30080)),
        to("10.244.1.2", 8080, true)
    );
    assert_eq!(
        tracer.receive(Packet::tcp("10.244.0.8", "10.96.0.10", 80)),
        to("10.244.0.2", 8080, false)
    );
    assert_eq!(tracer.clients["sticky"].len(), 3);
}

#[test]
fn an_ending_endpoint_serves_only_where_there_is_no_ready_one() {
    let ending = |ip: &str| SliceEndpoint {
        state: State::Ending,
        ..ready(ip)
    };
    let mut model = Model::default();
    let mut both = slice(Protocol::Tcp, 8080, &["10.244.1.2"]);
    both.endpoints = [ready("10.244.1.2"), ending("10.244.0.2")].into();
    add(
        &mut model,
        "a/web",
        service("10.96.0.10", Protocol::Tcp, 80, 0),
        both,
    );
    let mut one = slice(Protocol::Tcp, 8080, &[]);
    one.endpoints = [ending("10.244.0.3")].into();
    add(
        &mut model,
        "a/other",
        service("10.96.0.11", Protocol::Tcp, 80, 0),
        one,
    );
    let mut tracer = tracer(&model);
    for draw in 0..3 {
        tracer.draw = draw;
        assert_eq!(
            tracer.receive(Packet::tcp(POD, "10.96.0.10", 80)),
            to("10.244.1.2", 8080, false)
        );
        assert_eq!(
            tracer.receive(Packet::tcp(POD, "10.96.0.11", 80)),
            to("10.244.0.3", 8080, false)
        );
    }
}

#[test]
fn protocols_do_not_mix() {
    let mut model = Model::default();
    web(&mut model, &["10.244.1.2"]);
    let mut tracer = tracer(&model);
    let udp = Packet {
        protocol: Protocol::Udp,
        ..Packet::tcp(OUTSIDE, NODE, 30080)
    };
    assert_eq!(tracer.receive(udp), to(NODE, 30080, false));
}
