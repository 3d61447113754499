//! IPv6 and dual stack: the same cases by virtual and by real packets.

mod common;

use std::net::UdpSocket;

use common::fixture::{add, config, service, slice};
use common::hosts::nft;
use common::net::{NODE as NODE4, NODE6, Net, PODS, PODS6, ask, ask_udp};
use common::tracer::{Outcome, Packet, Tracer};
use knode_proxy::model::{IpFamily, Model, Protocol, Service};

const NODE: &str = NODE6;
const POD: &str = "fd10:244::9";
const OUTSIDE: &str = "2001:db8:ff::7";

fn to(address: &str, port: u16, masqueraded: bool) -> Outcome {
    Outcome::To {
        address: address.parse().expect("address"),
        port,
        masqueraded,
    }
}

fn dual() -> Service {
    let mut service = service("10.96.0.10", Protocol::Tcp, 80, 30080);
    let ip = |text: &str| text.parse().expect("address");
    service.cluster_ips = [ip("10.96.0.10"), ip("fd10:96::10")].into();
    service.external_ips = [ip("192.0.2.200"), ip("2001:db8::200")].into();
    service
}

fn model(service: Service) -> Model {
    let mut model = Model::default();
    add(
        &mut model,
        "a/web",
        service,
        slice(Protocol::Tcp, 8080, &["10.244.0.2", "10.244.1.2"]),
    );
    let six = slice(Protocol::Tcp, 8080, &["fd10:244::2", "fd10:244:1::2"]);
    model.set_slice("a/web-six", Some(("a/web", six)));
    model
}

fn tracer(model: &Model) -> Tracer {
    Tracer::of_family(IpFamily::V6, &config(), model, &[NODE, "fd10:244::1"])
}

#[test]
fn packets_stay_in_their_family() {
    let mut tracer = tracer(&model(dual()));
    for (draw, endpoint) in ["fd10:244::2", "fd10:244:1::2"].into_iter().enumerate() {
        tracer.draw = draw as u32;
        assert_eq!(
            tracer.receive(Packet::tcp(POD, "fd10:96::10", 80)),
            to(endpoint, 8080, false)
        );
        for address in [NODE, "2001:db8::200"] {
            let port = if address == NODE { 30080 } else { 80 };
            assert_eq!(
                tracer.receive(Packet::tcp(OUTSIDE, address, port)),
                to(endpoint, 8080, true)
            );
        }
    }
    assert_eq!(
        tracer.receive(Packet::tcp("fd10:244:1::2", "fd10:96::10", 80)),
        to("fd10:244:1::2", 8080, false),
        "an endpoint elsewhere is no hairpin"
    );
    tracer.draw = 0;
    assert_eq!(
        tracer.receive(Packet::tcp("fd10:244::2", "fd10:96::10", 80)),
        to("fd10:244::2", 8080, true),
        "an endpoint that reaches itself"
    );
    assert_eq!(
        tracer.receive(Packet::tcp(POD, "fd10:96::11", 80)),
        Outcome::Rejected
    );
    assert_eq!(
        tracer.send(Packet::tcp("::1", "::1", 30080)),
        to("::1", 30080, false),
        "never on loopback"
    );
}

#[test]
fn clients_are_remembered_and_local_traffic_stays() {
    let mut service = dual();
    (service.affinity, service.external_local) = (Some(600), true);
    let mut tracer = tracer(&model(service));
    tracer.draw = 1;
    assert_eq!(
        tracer.receive(Packet::tcp(POD, NODE, 30080)),
        to("fd10:244:1::2", 8080, false),
        "from inside: any"
    );
    tracer.draw = 0;
    assert_eq!(
        tracer.receive(Packet::tcp(POD, "fd10:96::10", 80)),
        to("fd10:244:1::2", 8080, false),
        "all frontends of a port share their clients"
    );
    for address in [NODE, "2001:db8::200"] {
        let port = if address == NODE { 30080 } else { 80 };
        assert_eq!(
            tracer.receive(Packet::tcp(OUTSIDE, address, port)),
            to("fd10:244::2", 8080, false)
        );
    }
    assert_eq!(tracer.clients["sticky"].len(), 2);
}

#[test]
fn real_packets_of_both_families_reach_the_pods() {
    let net = Net::new();
    let mut model = Model::default();
    add(&mut model, "a/web", dual(), slice(Protocol::Tcp, 8080, &PODS));
    model.set_slice("a/web-six", Some(("a/web", slice(Protocol::Tcp, 8080, &PODS6))));
    let mut applier = net.applier();
    applier.take_over(&model).expect("take over");
    for _ in 0..8 {
        for (node, towards_pods, pods) in [(NODE4, "10.244.0.1", PODS), (NODE6, "fd10:244::1", PODS6)] {
            let answer = net.client.run(|| ask(node, 30080));
            let (pod, peer) = answer.unwrap_or_else(|error| panic!("{node}: {error}"));
            assert!(pods.contains(&pod.as_str()), "{node} led to {pod}");
            assert_eq!(peer, towards_pods, "masqueraded");
        }
        let (pod, peer) = net.pods[0].run(|| ask("fd10:96::10", 80)).expect("from a pod");
        let expected = if pod == PODS6[0] { "fd10:244::1" } else { PODS6[0] };
        assert_eq!(peer, expected, "a pod keeps its address, except towards itself");
        net.node.run(|| ask("fd10:96::10", 80)).expect("from the node");
    }
    let refused = net.pods[0]
        .run(|| ask("fd10:96::10", 81))
        .expect_err("no such port");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
}

#[test]
fn a_udp_client_moves_on_in_six() {
    let net = Net::new();
    let mut model = Model::default();
    let endpoints = |list: &[&str]| Some(("a/dns", slice(Protocol::Udp, 5353, list)));
    model.set_service("a/dns", Some(service("fd10:96::53", Protocol::Udp, 53, 30053)));
    model.set_slice("a/dns-1", endpoints(&[]));
    let mut applier = net.applier();
    applier.take_over(&model).expect("take over");
    let socket = net.client.run(|| UdpSocket::bind("[::]:0").expect("bind"));
    for (address, port) in [("fd10:96::53", 53), (NODE6, 30053)] {
        for (endpoint, expected) in [("", None), (PODS6[0], Some(PODS6[0])), (PODS6[1], Some(PODS6[1]))] {
            let list: Vec<&str> = [endpoint].into_iter().filter(|one| !one.is_empty()).collect();
            let dirty = model.set_slice("a/dns-1", endpoints(&list));
            applier
                .update(&model, dirty.into_iter().collect())
                .expect("update");
            let answer = net.client.run(|| ask_udp(&socket, address, port));
            assert_eq!(
                answer.as_deref(),
                expected,
                "{address}:{port}, the same client socket"
            );
        }
    }
}

#[test]
fn a_cluster_without_ipv6_has_no_table_for_it() {
    common::hosts::in_fresh_netns(|| {
        let mut config = config();
        config.service_cidrs.retain(|net| net.addr().is_ipv4());
        let mut model = Model::default();
        model.set_service("a/web", Some(service("10.96.0.10", Protocol::Tcp, 80, 0)));
        let mut applier = knode_proxy::Applier::open(config).expect("open");
        applier.take_over(&model).expect("take over");
        assert_eq!(nft(&["list", "tables"]).trim(), "table ip knode-proxy");
        let dirty = model.set_service("a/web", Some(dual()));
        applier
            .update(&model, dirty.into_iter().collect())
            .expect("update");
        assert!(
            nft(&["list", "tables"]).contains("table ip6 knode-proxy"),
            "now it is needed"
        );
        assert!(!applier.verify().expect("verify").repaired);
    });
}
