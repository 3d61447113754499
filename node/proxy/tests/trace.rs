//! Virtual packets through the planned ruleset.

mod common;

use common::fixture::{add, cidr, config, ready, service, slice};
use common::tracer::{Outcome, Packet, Tracer};
use knode_proxy::model::{Model, NodeHint, Protocol, SliceEndpoint, State};
use knode_proxy::table::Locality;

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
fn an_endpoint_whose_slice_names_no_node_may_reach_itself() {
    let mut model = Model::default();
    let mut unplaced = slice(Protocol::Tcp, 8080, &["10.244.0.2"]);
    unplaced.endpoints[0].local = false;
    unplaced.endpoints[0].unplaced = true;
    add(
        &mut model,
        "web",
        service("10.96.0.10", Protocol::Tcp, 80, 0),
        unplaced,
    );
    assert_eq!(
        tracer(&model).receive(Packet::tcp("10.244.0.2", "10.96.0.10", 80)),
        to("10.244.0.2", 8080, true)
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
fn every_protocol_is_translated() {
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let mut model = Model::default();
        let service = service("10.96.0.10", protocol, 80, 30080);
        add(
            &mut model,
            "a/web",
            service,
            slice(protocol, 8080, &["10.244.1.2"]),
        );
        let mut tracer = tracer(&model);
        for (source, address, port, masqueraded) in
            [(POD, "10.96.0.10", 80, false), (OUTSIDE, NODE, 30080, true)]
        {
            let packet = Packet {
                protocol,
                ..Packet::tcp(source, address, port)
            };
            assert_eq!(
                tracer.receive(packet),
                to("10.244.1.2", 8080, masqueraded),
                "{protocol} {address}"
            );
        }
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

#[test]
fn source_ranges_guard_the_balancers_address_alone() {
    let mut model = Model::default();
    let mut guarded = service("10.96.0.10", Protocol::Tcp, 80, 30080);
    guarded.balancer_ips = ["192.0.2.100".parse().expect("ip")].into();
    guarded.external_ips = ["192.0.2.200".parse().expect("ip")].into();
    guarded.sources = Some(["198.51.100.0/24", "203.0.113.7/32"].map(cidr).into());
    add(
        &mut model,
        "a/web",
        guarded,
        slice(Protocol::Tcp, 8080, &["10.244.1.2"]),
    );
    let mut tracer = tracer(&model);
    let expected = to("10.244.1.2", 8080, true);
    for allowed in [OUTSIDE, "203.0.113.7"] {
        assert_eq!(tracer.receive(Packet::tcp(allowed, "192.0.2.100", 80)), expected);
    }
    for refused in ["203.0.113.8", POD] {
        assert_eq!(
            tracer.receive(Packet::tcp(refused, "192.0.2.100", 80)),
            Outcome::Dropped,
            "{refused}"
        );
    }
    assert_eq!(
        tracer.receive(Packet::tcp("203.0.113.8", "192.0.2.200", 80)),
        expected
    );
    assert_eq!(tracer.receive(Packet::tcp("203.0.113.8", NODE, 30080)), expected);
}

#[test]
fn external_addresses_keep_traffic_of_clients_outside_on_the_node() {
    let mut model = Model::default();
    let mut local = service("10.96.0.10", Protocol::Tcp, 80, 0);
    local.external_ips = ["192.0.2.200".parse().expect("ip")].into();
    local.external_local = true;
    let endpoints = slice(Protocol::Tcp, 8080, &["10.244.0.2", "10.244.1.2"]);
    add(&mut model, "a/web", local, endpoints);
    let mut tracer = tracer(&model);
    tracer.draw = 1;
    assert_eq!(
        tracer.receive(Packet::tcp(OUTSIDE, "192.0.2.200", 80)),
        to("10.244.0.2", 8080, false)
    );
    assert_eq!(
        tracer.receive(Packet::tcp(POD, "192.0.2.200", 80)),
        to("10.244.1.2", 8080, false),
        "from a pod: any"
    );
    assert_eq!(
        tracer.send(Packet::tcp(NODE, "192.0.2.200", 80)),
        to("10.244.1.2", 8080, true),
        "from the host: any"
    );
}

#[test]
fn hints_are_followed_only_where_all_endpoints_have_them() {
    let mut model = Model::default();
    let hinted = |ip: &str, zone: Option<&str>| SliceEndpoint {
        for_zones: zone.map(|zone| [Box::from(zone)].into()),
        ..ready(ip)
    };
    let mut endpoints = slice(Protocol::Tcp, 8080, &[]);
    let service = service("10.96.0.10", Protocol::Tcp, 80, 0);
    let mut reached = |model: &mut Model, list: [SliceEndpoint; 2]| -> Vec<Outcome> {
        endpoints.endpoints = list.into();
        add(model, "a/web", service.clone(), endpoints.clone());
        let mut tracer = tracer(model);
        let outcomes = (0..2).map(|draw| {
            tracer.draw = draw;
            tracer.receive(Packet::tcp(POD, "10.96.0.10", 80))
        });
        outcomes.collect()
    };
    let (one, two) = (to("10.244.0.2", 8080, false), to("10.244.1.2", 8080, false));
    let zones = [hinted("10.244.0.2", Some("z2")), hinted("10.244.1.2", Some("z1"))];
    assert_eq!(
        reached(&mut model, zones.clone()),
        [one, two],
        "the zone is unknown"
    );
    assert_eq!(model.set_zone(Some("z1")).len(), 1, "the service is concerned");
    assert_eq!(reached(&mut model, zones.clone()), [two, two]);
    let partly = [zones[0].clone(), hinted("10.244.1.2", None)];
    assert_eq!(reached(&mut model, partly), [one, two], "one without a hint");
    model.set_zone(Some("z3"));
    assert_eq!(
        reached(&mut model, zones.clone()),
        [one, two],
        "none for this zone"
    );
    let [mut here, mut elsewhere] = zones;
    (here.for_node, elsewhere.for_node) = (NodeHint::Here, NodeHint::Elsewhere);
    model.set_zone(Some("z1"));
    assert_eq!(
        reached(&mut model, [here, elsewhere]),
        [one, one],
        "hints for nodes come first"
    );
}

#[test]
fn pods_are_told_as_configured() {
    let mut model = Model::default();
    web(&mut model, &["10.244.1.2"]);
    let masqueraded = |change: &dyn Fn(&mut knode_proxy::table::TableConfig), source: &str, interface| {
        let mut config = config();
        change(&mut config);
        let mut tracer = Tracer::new(&config, &model, &[NODE]);
        tracer.interface = interface;
        match tracer.receive(Packet::tcp(source, "10.96.0.10", 80)) {
            Outcome::To { masqueraded, .. } => masqueraded,
            other => panic!("{other:?}"),
        }
    };
    let by_cidr = |_: &mut knode_proxy::table::TableConfig| {};
    assert!(!masqueraded(&by_cidr, POD, "eth0") && masqueraded(&by_cidr, OUTSIDE, "eth0"));
    let bridge =
        |config: &mut knode_proxy::table::TableConfig| config.locality = Locality::Bridge("cni0".into());
    assert!(!masqueraded(&bridge, OUTSIDE, "cni0") && masqueraded(&bridge, POD, "cni01"));
    let prefix = |config: &mut knode_proxy::table::TableConfig| {
        config.locality = Locality::InterfacePrefix("veth".into())
    };
    assert!(!masqueraded(&prefix, OUTSIDE, "veth12") && masqueraded(&prefix, POD, "eth0"));
    let all = |config: &mut knode_proxy::table::TableConfig| config.masquerade_all = true;
    assert!(masqueraded(&all, POD, "eth0"));
    let unknown = |config: &mut knode_proxy::table::TableConfig| config.locality = Locality::Unknown;
    assert!(!masqueraded(&unknown, OUTSIDE, "eth0"));
}

#[test]
fn node_ports_are_served_on_the_configured_addresses() {
    let mut model = Model::default();
    web(&mut model, &["10.244.1.2"]);
    let mut config = config();
    config.node_port_addresses = vec![cidr("192.0.2.0/24")];
    let mut tracer = Tracer::new(&config, &model, &[NODE, "10.0.0.1"]);
    assert_eq!(
        tracer.receive(Packet::tcp(OUTSIDE, NODE, 30080)),
        to("10.244.1.2", 8080, true)
    );
    assert_eq!(
        tracer.receive(Packet::tcp(OUTSIDE, "10.0.0.1", 30080)),
        to("10.0.0.1", 30080, false)
    );
}
