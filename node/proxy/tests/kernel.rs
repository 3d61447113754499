//! Real packets between network namespaces: a client, a node with the table, a pod network.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::fixture::{add, config, service, slice};
use common::hosts::{Host, nft};
use knode_proxy::Applier;
use knode_proxy::model::{Model, Protocol, Service, Slice};

const NODE: &str = "192.0.2.1";
const TIMEOUT: Duration = Duration::from_secs(5);

/// A client outside, a node, and two pods behind routed veths.
struct Net {
    client: Host,
    node: Host,
    pods: [Host; 2],
    servers: Vec<(Arc<AtomicBool>, SocketAddr)>,
}

const PODS: [&str; 2] = ["10.244.0.2", "10.244.0.3"];

impl Net {
    fn new() -> Self {
        let (client, node, pods) = (Host::new(), Host::new(), [Host::new(), Host::new()]);
        node.veth("out", "192.0.2.1/24", &client, "eth0", "192.0.2.7/24");
        client.ip("route add default via 192.0.2.1");
        // The node must have some route to the service network.
        node.ip("route add default via 192.0.2.7");
        for (pod, address) in pods.iter().zip(PODS) {
            let link = format!("pod{}", &address[9..]);
            node.veth(&link, "10.244.0.1/32", pod, "eth0", &format!("{address}/32"));
            node.ip(&format!("route add {address} dev {link}"));
            pod.ip("route add 10.244.0.1 dev eth0");
            pod.ip("route add default via 10.244.0.1");
        }
        node.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding"));
        let mut net = Self {
            client,
            node,
            pods,
            servers: Vec::new(),
        };
        for index in 0..PODS.len() {
            net.serve_tcp(index);
            net.serve_udp(index);
        }
        net
    }

    /// Answers each connection with the pod's address and the client's as the pod sees it.
    fn serve_tcp(&mut self, index: usize) {
        let listener = self.pods[index].run(|| TcpListener::bind((PODS[index], 8080)).expect("bind"));
        let stop = Arc::new(AtomicBool::new(false));
        self.servers
            .push((stop.clone(), listener.local_addr().expect("address")));
        self.pods[index].spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let peer = stream
                    .peer_addr()
                    .map(|peer| peer.ip().to_string())
                    .unwrap_or_default();
                // A client that has gone away is no failure of the server.
                let _ = stream.write_all(format!("{} {peer}", PODS[index]).as_bytes());
            }
        });
    }

    fn serve_udp(&self, index: usize) {
        let socket = self.pods[index].run(|| UdpSocket::bind((PODS[index], 5353)).expect("bind"));
        self.pods[index].spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                if &buffer[..length] == b"stop" {
                    return;
                }
                // As above.
                let _ = socket.send_to(PODS[index].as_bytes(), peer);
            }
        });
    }

    fn applier(&self) -> Applier {
        self.node.run(|| Applier::open(config()).expect("open"))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for (pod, (stop, address)) in self.pods.iter().zip(&self.servers) {
            stop.store(true, Ordering::Relaxed);
            let address = *address;
            pod.run(|| {
                // Wakes the servers so that they end; one that has ended already is fine.
                let _ = TcpStream::connect_timeout(&address, TIMEOUT);
                if let Ok(socket) = UdpSocket::bind("0.0.0.0:0") {
                    let _ = socket.send_to(b"stop", (address.ip(), 5353));
                }
            });
        }
    }
}

/// Connects and returns what the pod says: its address, and the client's as it sees it.
fn ask(address: &str, port: u16) -> std::io::Result<(String, String)> {
    let address = SocketAddr::new(address.parse().expect("address"), port);
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (pod, peer) = text
        .split_once(' ')
        .ok_or_else(|| std::io::Error::other(format!("odd answer {text:?}")))?;
    Ok((pod.to_owned(), peer.to_owned()))
}

fn ask_udp(socket: &UdpSocket, address: &str, port: u16) -> Option<String> {
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("timeout");
    socket.send_to(b"hello", (address, port)).ok()?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    String::from_utf8(buffer[..length].to_vec()).ok()
}

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
            taken.repaired && taken.commands <= 2,
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
    let damages: [&[&str]; 7] = [
        &["flush", "ruleset"],
        &["flush", "map", "ip", "knode-proxy", "svc"],
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
