//! Every kind of Service by real packets, in both families and both modes.

mod common;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::fixture::{add, cidr, config, ready, service, slice};
use common::hand::Hand;
use common::hosts::Host;
use common::net::{NODE, NODE6, Net, PODS, PODS6, ask, ask_briefly, ask_udp};
use common::sctp::{Raw, is_answer};
use knode_proxy::ProxyMode;
use knode_proxy::model::{Model, Protocol, Service, Slice, SliceEndpoint, State};
use knode_proxy::table::{Locality, TableConfig};

/// How long a client waits at most that is refused: resets come at once, while an ICMP message that comes before
/// the client has let go of its socket makes it try a second time.
fn at_once(mode: ProxyMode) -> Duration {
    match mode {
        ProxyMode::Nftables => Duration::from_secs(1),
        ProxyMode::Iptables => Duration::from_secs(3),
    }
}

/// The addresses of one family.
struct Side {
    cluster: &'static str,
    external: &'static str,
    node: &'static str,
    /// The node's address towards the pods, which is one of its own too.
    gateway: &'static str,
    client: &'static str,
    pods: [&'static str; 2],
    loopback: &'static str,
    /// The client's network, and one that it is not in.
    networks: [&'static str; 2],
}

const SIDES: [Side; 2] = [
    Side {
        cluster: "10.96.0.10",
        external: "203.0.113.5",
        node: NODE,
        gateway: "10.244.0.1",
        client: "192.0.2.7",
        pods: PODS,
        loopback: "127.0.0.1",
        networks: ["192.0.2.0/24", "198.51.100.0/24"],
    },
    Side {
        cluster: "fd10:96::10",
        external: "2001:db8:5::5",
        node: NODE6,
        gateway: "fd10:244::1",
        client: "2001:db8::7",
        pods: PODS6,
        loopback: "::1",
        networks: ["2001:db8::/64", "2001:db8:7::/64"],
    },
];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

/// A network, its node's proxy and one Service.
struct Case {
    net: Net,
    hand: Hand,
    model: Model,
}

impl Case {
    fn new(mode: ProxyMode, config: TableConfig) -> Self {
        let net = Net::new();
        let hand = Hand::new(&net.node, mode, config);
        Self {
            net,
            hand,
            model: Model::default(),
        }
    }

    /// Programs this Service as the only one.
    fn set(&mut self, service: Service, slice: Slice) {
        add(&mut self.model, "a/web", service, slice);
        self.hand.take_over(&self.net.node, &self.model);
    }

    /// Changes the Service's endpoints alone.
    fn change(&mut self, slice: Slice) {
        let dirty = self.model.set_slice("a/web-1", Some(("a/web", slice)));
        let dirty: BTreeSet<_> = dirty.into_iter().collect();
        self.hand.update(&self.net.node, &self.model, dirty);
    }
}

fn web(side: &Side) -> Service {
    let mut web = service(side.cluster, Protocol::Tcp, 80, 30080);
    web.external_ips = [ip(side.external)].into();
    web
}

fn pods(side: &Side) -> Slice {
    slice(Protocol::Tcp, 8080, &side.pods)
}

/// Wants the pod to see this source.
fn sees(host: &Host, to: &str, port: u16, source: &str, what: &str) -> String {
    let asked = host.run(|| ask(to, port));
    let (pod, peer) = asked.unwrap_or_else(|error| panic!("{what}: {to} {port}: {error}"));
    assert_eq!(
        peer, source,
        "{what}: the source that the pod {pod} sees through {to} {port}"
    );
    pod
}

fn refused(host: &Host, to: &str, port: u16, within: Duration, what: &str) {
    let began = Instant::now();
    let error = host.run(|| ask(to, port)).expect_err(what);
    assert_eq!(
        error.kind(),
        ErrorKind::ConnectionRefused,
        "{what}: {to} {port}: {error}"
    );
    assert!(
        began.elapsed() < within,
        "{what}: {to} {port} after {:?}",
        began.elapsed()
    );
}

fn addresses_and_node_ports(mode: ProxyMode) {
    let mut case = Case::new(mode, config());
    for side in &SIDES {
        let one = SliceEndpoint::new(ip(side.pods[0]), State::Ready, true);
        case.set(web(side), pods(side));
        let Net { client, node, .. } = &case.net;
        sees(
            client,
            side.cluster,
            80,
            side.gateway,
            "from outside to the cluster address",
        );
        sees(
            client,
            side.external,
            80,
            side.gateway,
            "from outside to an external address",
        );
        sees(
            client,
            side.node,
            30080,
            side.gateway,
            "from outside to a node port",
        );
        sees(
            client,
            side.gateway,
            30080,
            side.gateway,
            "to another address of the node",
        );
        sees(node, side.node, 30080, side.gateway, "from the node to its port");
        sees(
            node,
            side.external,
            80,
            side.gateway,
            "from the node to an external address",
        );
        sees(
            node,
            side.cluster,
            80,
            side.gateway,
            "from the node to the cluster address",
        );
        refused(
            node,
            side.loopback,
            30080,
            at_once(mode),
            "node ports are not served on loopback",
        );
        refused(client, side.node, 80, at_once(mode), "no node port");
        let mut alone = pods(side);
        alone.endpoints = [one].into();
        case.set(web(side), alone);
        let [pod, other] = &case.net.pods;
        sees(pod, side.cluster, 80, side.gateway, "a pod that reaches itself");
        sees(other, side.cluster, 80, side.pods[1], "a pod keeps its address");
    }
}

fn node_ports_on_some_addresses(mode: ProxyMode) {
    let served = SIDES.map(|side| cidr(side.networks[0]));
    let config = TableConfig {
        node_port_addresses: served.into(),
        ..config()
    };
    let mut case = Case::new(mode, config);
    for side in &SIDES {
        case.set(web(side), pods(side));
        sees(
            &case.net.client,
            side.node,
            30080,
            side.gateway,
            "on an address that is served",
        );
        refused(
            &case.net.client,
            side.gateway,
            30080,
            at_once(mode),
            "on one that is not",
        );
    }
}

fn traffic_that_stays_on_the_node(mode: ProxyMode) {
    let mut case = Case::new(mode, config());
    for side in &SIDES {
        let mut web = web(side);
        web.balancer_ips = web.external_ips.clone();
        web.external_ips = [].into();
        web.external_local = true;
        // The first pod is on this node, the other one counts as elsewhere.
        let mut endpoints = pods(side);
        endpoints.endpoints[1].local = false;
        for sources in [None, Some([cidr(side.networks[0])].into())] {
            web.sources = sources;
            case.set(web.clone(), endpoints.clone());
            for _ in 0..8 {
                let client = &case.net.client;
                for (to, port) in [(side.external, 80), (side.node, 30080)] {
                    let pod = sees(client, to, port, side.client, "from outside, kept here");
                    assert_eq!(pod, side.pods[0], "only the one here: {to} {port}");
                }
            }
        }
        web.sources = Some([cidr(side.networks[1])].into());
        case.set(web.clone(), endpoints.clone());
        let outside = case
            .net
            .client
            .run(|| ask_briefly(side.external, 80))
            .expect_err("not in the range");
        assert_eq!(outside.kind(), ErrorKind::TimedOut, "dropped: {outside}");
        sees(
            &case.net.client,
            side.node,
            30080,
            side.client,
            "node ports are not guarded",
        );
        endpoints.endpoints = [SliceEndpoint::new(ip(side.pods[1]), State::Ready, false)].into();
        web.sources = None;
        case.set(web, endpoints);
        let outside = case
            .net
            .client
            .run(|| ask_briefly(side.node, 30080))
            .expect_err("none here");
        assert_eq!(outside.kind(), ErrorKind::TimedOut, "dropped: {outside}");
        sees(
            &case.net.pods[0],
            side.node,
            30080,
            side.pods[0],
            "from a pod: any endpoint",
        );
        sees(
            &case.net.node,
            side.node,
            30080,
            side.gateway,
            "from the node: any endpoint",
        );
    }
}

fn endpoints_that_end_and_none_at_all(mode: ProxyMode) {
    let mut case = Case::new(mode, config());
    for side in &SIDES {
        let with = |states: [State; 2]| {
            let endpoint = |(pod, state): (&str, State)| SliceEndpoint { state, ..ready(pod) };
            let mut slice = pods(side);
            slice.endpoints = side.pods.into_iter().zip(states).map(endpoint).collect();
            slice
        };
        case.set(web(side), with([State::Ending, State::Ready]));
        for _ in 0..8 {
            let pod = sees(&case.net.client, side.node, 30080, side.gateway, "one is ready");
            assert_eq!(pod, side.pods[1], "the other one ends");
        }
        let mut last = with([State::Ending, State::Ending]);
        last.endpoints = [last.endpoints[0].clone()].into();
        case.change(last);
        let pod = sees(
            &case.net.client,
            side.node,
            30080,
            side.gateway,
            "the last one ends",
        );
        assert_eq!(pod, side.pods[0]);
        case.change(slice(Protocol::Tcp, 8080, &[]));
        let (client, node, pod) = (&case.net.client, &case.net.node, &case.net.pods[0]);
        for (who, host) in [("client", client), ("node", node), ("pod", pod)] {
            for (to, port) in [(side.cluster, 80), (side.external, 80), (side.node, 30080)] {
                // Upstream's chain for external addresses is not asked about the host's own packets.
                if (mode, who, to) != (ProxyMode::Iptables, "node", side.external) {
                    refused(host, to, port, at_once(mode), who);
                }
            }
        }
    }
}

fn sources_by_how_pods_are_told(mode: ProxyMode) {
    let cidrs = ["10.244.0.0/16", "fd10:244::/32"].map(cidr);
    // The first pod comes in by `pod2`, the other one by `pod3`; each column says who is masqueraded.
    let ways = [
        (Locality::Cidrs(cidrs.into()), [true, false, false]),
        (Locality::Bridge("pod2".to_owned()), [true, false, true]),
        (Locality::InterfacePrefix("pod".to_owned()), [true, false, false]),
        (Locality::Unknown, [false, false, false]),
    ];
    let all = ways.iter().map(|(locality, who)| (locality, false, *who));
    for (locality, masquerade_all, masqueraded) in all.chain([(&Locality::Unknown, true, [true; 3])]) {
        let config = TableConfig {
            locality: locality.clone(),
            masquerade_all,
            ..config()
        };
        let mut case = Case::new(mode, config);
        for side in &SIDES {
            case.set(web(side), pods(side));
            let Net { client, pods, .. } = &case.net;
            let hosts = [
                (client, side.client),
                (&pods[0], side.pods[0]),
                (&pods[1], side.pods[1]),
            ];
            for ((host, own), masqueraded) in hosts.into_iter().zip(masqueraded) {
                let (pod, peer) = host.run(|| ask(side.cluster, 80)).expect("answer");
                let expected = if masqueraded || pod == own {
                    side.gateway
                } else {
                    own
                };
                assert_eq!(
                    peer, expected,
                    "{own} to {pod} with {locality:?}, all: {masquerade_all}"
                );
            }
        }
    }
}

fn clients_that_keep_their_endpoint(mode: ProxyMode) {
    let mut case = Case::new(mode, config());
    for side in &SIDES {
        let mut sticky = web(side);
        sticky.affinity = Some(600);
        case.set(sticky, pods(side));
        let first = sees(&case.net.client, side.node, 30080, side.gateway, "the first time");
        for _ in 0..12 {
            for (to, port) in [(side.node, 30080), (side.cluster, 80), (side.external, 80)] {
                let pod = sees(&case.net.client, to, port, side.gateway, "again");
                assert_eq!(pod, first, "{to} {port}");
            }
        }
    }
}

/// Both cases of flows that nothing else would end, each within a second.
fn udp_flows_end_with_what_they_led_to(mode: ProxyMode) {
    let mut case = Case::new(mode, config());
    for side in &SIDES {
        let endpoints = |list: &[&str]| slice(Protocol::Udp, 5353, list);
        case.set(service(side.cluster, Protocol::Udp, 53, 30053), endpoints(&[]));
        let any = if side.cluster.contains(':') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let socket = case.net.client.run(|| UdpSocket::bind(any).expect("bind"));
        for (to, port) in [(side.cluster, 53), (side.node, 30053)] {
            case.change(endpoints(&[]));
            assert_eq!(
                case.net.client.run(|| ask_udp(&socket, to, port)),
                None,
                "no endpoint"
            );
            for pod in side.pods {
                case.change(endpoints(&[pod]));
                let began = Instant::now();
                let mut answer = None;
                while answer.is_none() && began.elapsed() < Duration::from_secs(1) {
                    answer = case.net.client.run(|| ask_udp(&socket, to, port));
                }
                assert_eq!(
                    answer.as_deref(),
                    Some(pod),
                    "{to} {port}, the same client socket"
                );
            }
        }
    }
}

/// An INIT reaches the pod and its answer the client, translated both ways.
fn sctp_is_translated(mode: ProxyMode) {
    let mut case = Case::new(mode, config());
    for side in &SIDES {
        let endpoints = slice(Protocol::Sctp, 7000, &side.pods[..1]);
        case.set(service(side.cluster, Protocol::Sctp, 3868, 30868), endpoints);
        let Net { client, pods, .. } = &case.net;
        let server = pods[0].run(|| Raw::new(ip(side.pods[0])));
        let peer = client.run(|| Raw::new(ip(side.client)));
        for (number, (to, port)) in [(side.cluster, 3868), (side.node, 30868)].into_iter().enumerate() {
            let from = 40_000 + number as u16;
            peer.init(from, SocketAddr::new(ip(to), port));
            let init = server.receive(7000);
            let init = init.unwrap_or_else(|| panic!("no INIT came through {to} {port}"));
            assert_eq!(init.from, ip(side.gateway), "masqueraded: {init:?}");
            server.answer(&init);
            let answer = peer.receive(from);
            let answer = answer.unwrap_or_else(|| panic!("no answer came through {to} {port}"));
            assert!(is_answer(&answer), "{answer:?}");
            assert_eq!(
                (answer.from, answer.source),
                (ip(to), port),
                "as if the service had answered"
            );
        }
    }
}

macro_rules! both_modes {
    ($($case:ident)*) => {
        mod nftables {
            $(#[test]
            fn $case() {
                super::$case(super::ProxyMode::Nftables);
            })*
        }
        mod iptables {
            $(#[test]
            fn $case() {
                super::$case(super::ProxyMode::Iptables);
            })*
        }
    };
}

both_modes! {
    addresses_and_node_ports
    node_ports_on_some_addresses
    traffic_that_stays_on_the_node
    endpoints_that_end_and_none_at_all
    sources_by_how_pods_are_told
    clients_that_keep_their_endpoint
    udp_flows_end_with_what_they_led_to
    sctp_is_translated
}
