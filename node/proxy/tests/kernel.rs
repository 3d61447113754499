//! Real packets between network namespaces: a client, a node with the table, a pod network.

mod common;

use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::fixture::{add, cidr, config, service, slice};
use common::hosts::{Host, nft};
use common::net::{NODE, Net, PODS, ask, ask_briefly, ask_udp};
use knode_proxy::Applier;
use knode_proxy::model::{Model, Protocol, Service, Slice};

fn web() -> Service {
    service("10.96.0.10", Protocol::Tcp, 80, 30080)
}

fn both() -> Slice {
    slice(Protocol::Tcp, 8080, &PODS)
}

#[test]
fn services_answer_from_every_side() {
    let net = Net::new();
    let mut model = Model::default();
    add(&mut model, "a/web", web(), both());
    net.applier().take_over(&model).expect("take over");
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let (pod, peer) = net
            .client
            .run(|| ask(NODE, 30080))
            .expect("node port from outside");
        assert_eq!(
            peer, "10.244.0.1",
            "masqueraded under the address towards the pods"
        );
        reached.insert(pod);
    }
    assert_eq!(reached.len(), 2, "connections are spread: {reached:?}");
    for _ in 0..8 {
        net.node
            .run(|| ask(NODE, 30080))
            .expect("node port from the node");
        let (_, peer) = net
            .node
            .run(|| ask("10.96.0.10", 80))
            .expect("cluster address from the node");
        assert_eq!(peer, "10.244.0.1");
        net.pods[0]
            .run(|| ask(NODE, 30080))
            .expect("node port from a pod");
        let (pod, peer) = net.pods[0]
            .run(|| ask("10.96.0.10", 80))
            .expect("cluster address from a pod");
        let expected = if pod == PODS[0] { "10.244.0.1" } else { PODS[0] };
        assert_eq!(peer, expected, "a pod keeps its address, except towards itself");
    }
}

#[test]
fn connections_are_counted_by_service() {
    let net = Net::new();
    let mut model = Model::default();
    add(&mut model, "a/web", web(), both());
    let mut applier = net.applier();
    applier.take_over(&model).expect("take over");
    assert_eq!(applier.counts().expect("counts"), []);
    for _ in 0..5 {
        net.client.run(|| ask(NODE, 30080)).expect("node port");
        net.pods[0]
            .run(|| ask("10.96.0.10", 80))
            .expect("cluster address");
    }
    // What changes about the endpoints does not end the count.
    let dirty = model.set_slice("a/web-1", Some(("a/web", slice(Protocol::Tcp, 8080, &PODS[..1]))));
    applier
        .update(&model, dirty.into_iter().collect())
        .expect("update");
    net.client.run(|| ask(NODE, 30080)).expect("node port");
    let counts = applier.counts().expect("counts").into_iter();
    let mut counts: Vec<(String, u64)> = counts
        .map(|count| (format!("{} {}", count.service, count.frontend), count.connections))
        .collect();
    counts.sort();
    let expected = [("a/web 10.96.0.10 tcp 80", 5), ("a/web node tcp 30080", 6)];
    assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn a_balancers_address_lets_its_source_ranges_in_and_keeps_traffic_on_the_node() {
    let net = Net::new();
    let balancer = "203.0.113.5";
    // The first pod is on this node, the other one counts as elsewhere.
    let mut endpoints = both();
    endpoints.endpoints[1].local = false;
    let mut applier = net.applier();
    let mut model = Model::default();
    let mut set = |ranges: &str, local: bool| {
        let mut guarded = web();
        guarded.balancer_ips = [balancer.parse().expect("ip")].into();
        guarded.sources = Some([cidr(ranges)].into());
        guarded.external_local = local;
        add(&mut model, "a/web", guarded, endpoints.clone());
        applier.take_over(&model).expect("take over");
    };
    set("192.0.2.0/24", false);
    let (_, peer) = net.client.run(|| ask(balancer, 80)).expect("in the range");
    assert_eq!(peer, "10.244.0.1", "masqueraded, for it may cross nodes");
    set("192.0.2.0/24", true);
    for _ in 0..8 {
        let (pod, peer) = net.client.run(|| ask(balancer, 80)).expect("in the range");
        assert_eq!(
            (pod.as_str(), peer.as_str()),
            (PODS[0], "192.0.2.7"),
            "kept here, with its source"
        );
    }
    set("198.51.100.0/24", true);
    let outside = net
        .client
        .run(|| ask_briefly(balancer, 80))
        .expect_err("not in the range");
    assert_eq!(outside.kind(), std::io::ErrorKind::TimedOut, "dropped: {outside}");
    net.client
        .run(|| ask(NODE, 30080))
        .expect("node ports are not guarded");
}

#[test]
fn without_endpoints_clients_are_refused_at_once() {
    let net = Net::new();
    let mut model = Model::default();
    add(&mut model, "a/web", web(), slice(Protocol::Tcp, 8080, &[]));
    net.applier().take_over(&model).expect("take over");
    let refused = |host: &Host, address: &'static str, port| {
        let began = Instant::now();
        let error = host.run(|| ask(address, port)).expect_err("no endpoint");
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionRefused,
            "{address}:{port}: {error}"
        );
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{address}:{port} took {:?}",
            began.elapsed()
        );
    };
    for host in [&net.node, &net.pods[0], &net.client] {
        refused(host, "10.96.0.10", 80);
        refused(host, "10.96.0.10", 81);
        refused(host, NODE, 30080);
    }
}

#[test]
fn a_client_keeps_its_endpoint_until_it_is_gone() {
    let net = Net::new();
    let mut model = Model::default();
    add(
        &mut model,
        "a/web",
        Service {
            affinity: Some(600),
            ..web()
        },
        both(),
    );
    let mut applier = net.applier();
    applier.take_over(&model).expect("take over");
    let first = net.client.run(|| ask(NODE, 30080)).expect("connect").0;
    for _ in 0..20 {
        assert_eq!(net.client.run(|| ask(NODE, 30080)).expect("connect").0, first);
    }
    let other = PODS.into_iter().find(|pod| *pod != first).expect("another pod");
    let dirty = model.set_slice("a/web-1", Some(("a/web", slice(Protocol::Tcp, 8080, &[other]))));
    applier
        .update(&model, dirty.into_iter().collect())
        .expect("update");
    assert_eq!(net.client.run(|| ask(NODE, 30080)).expect("connect").0, other);
    let dirty = model.set_slice("a/web-1", Some(("a/web", both())));
    applier
        .update(&model, dirty.into_iter().collect())
        .expect("update");
    for _ in 0..20 {
        assert_eq!(net.client.run(|| ask(NODE, 30080)).expect("connect").0, other);
    }
}

#[test]
fn a_udp_client_moves_on_when_its_endpoint_goes_and_finds_the_first_that_comes() {
    let net = Net::new();
    let mut model = Model::default();
    let endpoints = |list: &[&str]| Some(("a/dns", slice(Protocol::Udp, 5353, list)));
    model.set_service("a/dns", Some(service("10.96.0.53", Protocol::Udp, 53, 30053)));
    model.set_slice("a/dns-1", endpoints(&[]));
    let mut applier = net.applier();
    applier.take_over(&model).expect("take over");
    let mut set = |list: &[&str]| {
        let dirty = model.set_slice("a/dns-1", endpoints(list));
        applier
            .update(&model, dirty.into_iter().collect())
            .expect("update");
    };
    let socket = net.client.run(|| UdpSocket::bind("0.0.0.0:0").expect("bind"));
    for (address, port) in [("10.96.0.53", 53), (NODE, 30053)] {
        set(&[]);
        assert_eq!(net.client.run(|| ask_udp(&socket, address, port)), None);
        for endpoint in [PODS[0], PODS[1]] {
            set(&[endpoint]);
            let answer = net.client.run(|| ask_udp(&socket, address, port));
            assert_eq!(
                answer.as_deref(),
                Some(endpoint),
                "{address}:{port}, the same client socket"
            );
        }
    }
}

/// Connects again and again until told to stop; counts failures.
fn client_loop(net: &Net) -> (Arc<AtomicBool>, Arc<AtomicUsize>, JoinHandle<Vec<String>>) {
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (until, count) = (stop.clone(), made.clone());
    let thread = net.client.spawn(move || {
        let mut failures = Vec::new();
        while !until.load(Ordering::Relaxed) {
            if let Err(error) = ask(NODE, 30080) {
                failures.push(error.to_string());
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        failures
    });
    (stop, made, thread)
}

/// Waits until so many more connections were made.
fn wait_more(made: &AtomicUsize, more: usize) {
    let (target, deadline) = (
        made.load(Ordering::Relaxed) + more,
        Instant::now() + Duration::from_secs(20),
    );
    while made.load(Ordering::Relaxed) < target {
        assert!(
            Instant::now() < deadline,
            "only {} of {target} connections",
            made.load(Ordering::Relaxed)
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_new_run_takes_the_table_over_without_a_failing_connection() {
    let net = Net::new();
    let mut model = Model::default();
    add(&mut model, "a/web", web(), both());
    net.applier().take_over(&model).expect("take over");
    let long_lived = net
        .client
        .run(|| TcpStream::connect((NODE, 30080)).expect("connect"));
    let (stop, made, thread) = client_loop(&net);
    for round in 0..20 {
        // The Services have changed while nobody looked.
        add(
            &mut model,
            &format!("a/other{round}"),
            service(&format!("10.96.1.{round}"), Protocol::Tcp, 80, 0),
            both(),
        );
        let taken = net.applier().take_over(&model).expect("take over");
        assert!(
            taken.repaired && taken.commands <= 3,
            "only what is new: {taken:?}"
        );
        wait_more(&made, 10);
    }
    stop.store(true, Ordering::Relaxed);
    assert_eq!(thread.join().expect("client"), Vec::<String>::new());
    drop(long_lived);
}

#[test]
fn what_others_break_is_mended() {
    let net = Net::new();
    let mut model = Model::default();
    add(&mut model, "a/web", web(), both());
    let mut applier = net.applier();
    applier.take_over(&model).expect("take over");
    assert!(!applier.verify().expect("verify").repaired);
    let damages: [&[&str]; 8] = [
        &["flush", "ruleset"],
        &["flush", "set", "ip", "knode-proxy", "to-node"],
        &["flush", "chain", "ip", "knode-proxy", "pick-node"],
        &["flush", "chain", "ip", "knode-proxy", "prerouting"],
        &[
            "delete",
            "element",
            "ip",
            "knode-proxy",
            "eps",
            "{ 10.96.0.10 . tcp . 80 . 0x1 }",
        ],
        &[
            "add",
            "element",
            "ip",
            "knode-proxy",
            "hairpin",
            "{ 1.2.3.4 . 1.2.3.4 }",
        ],
        &["insert", "rule", "ip", "knode-proxy", "services", "return"],
        &["add", "chain", "ip", "knode-proxy", "stranger"],
    ];
    for damage in damages {
        net.node.run(|| nft(damage));
        assert!(
            applier.verify().expect("verify").repaired,
            "{damage:?} was not noticed"
        );
        assert!(
            !applier.verify().expect("verify").repaired,
            "{damage:?} was not mended"
        );
        net.client
            .run(|| ask(NODE, 30080))
            .unwrap_or_else(|error| panic!("{damage:?}: {error}"));
    }
}

#[test]
fn teardown_leaves_nothing_and_touches_no_other_table() {
    let net = Net::new();
    net.node.run(|| {
        nft(&["add", "table", "ip", "other"]);
        let before = nft(&["list", "ruleset"]);
        let mut model = Model::default();
        add(&mut model, "a/web", web(), both());
        Applier::open(config())
            .expect("open")
            .take_over(&model)
            .expect("take over");
        assert!(knode_proxy::teardown(&config()).is_empty());
        assert_eq!(nft(&["list", "ruleset"]), before);
        assert!(
            knode_proxy::teardown(&config()).is_empty(),
            "a second time is fine"
        );
    });
}
