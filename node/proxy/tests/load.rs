//! Requests and long-lived connections through Services while endpoints roll, a hundred Services and slices come and
//! go a second, and the proxy is cut off and started again.

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::api::Api;
use common::hosts::Host;
use common::net::{NODE, NODE6, Net, PODS, PODS6, ask, ask_briefly};
use futures::FutureExt;
use knode_proxy::config::Settings;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// Changes in all, and the pause between two.
const CHANGES: u32 = 600;
const PACE: Duration = Duration::from_millis(10);
/// After so many changes the endpoints of the Services under load are others.
const ROLL: u32 = 20;
/// After so many changes the proxy is cut off.
const CUT: u32 = 150;
/// Longer than any answer takes.
const BOUND: Duration = Duration::from_secs(10);
const ECHO: u16 = 7;

const WEB_IPS: [&str; 2] = ["10.96.0.10", "fd10:96::10"];
const TALK_IPS: [&str; 2] = ["10.96.0.7", "fd10:96::7"];

/// A port of a test's Service: its name, number, node port, and the endpoints' port.
type Port = (&'static str, u16, u16, u16);

const WEB: [Port; 1] = [("web", 80, 30080, 8080)];
const PASSING: [Port; 1] = [("web", 80, 0, 8080)];
const TALK: [Port; 1] = [("echo", ECHO, 30007, ECHO)];

fn set_service(api: &Api, name: &str, ips: [&str; 2], ports: &[Port]) {
    let port = |(name, port, node_port, _): &Port| json!({"name": name, "port": port, "nodePort": node_port});
    let listed: Vec<Value> = ports.iter().map(port).collect();
    let spec = json!({"type": "NodePort", "clusterIP": ips[0], "clusterIPs": ips, "ports": listed});
    api.set("services", name, json!({"metadata": {}, "spec": spec}));
}

/// One slice of each family.
fn set_slices(api: &Api, service: &str, pods: &[usize], ports: &[Port]) {
    let port = |(name, _, _, target): &Port| json!({"name": name, "port": target});
    let listed: Vec<Value> = ports.iter().map(port).collect();
    for (family, addresses) in [("IPv4", PODS), ("IPv6", PODS6)] {
        let endpoint = |pod: &usize| json!({"addresses": [addresses[*pod]], "nodeName": "node1"});
        let endpoints: Vec<Value> = pods.iter().map(endpoint).collect();
        let labels = json!({"kubernetes.io/service-name": service});
        let slice = json!({"metadata": {"labels": labels}, "addressType": family,
            "endpoints": endpoints, "ports": listed});
        api.set("endpointslices", &slice_name(service, family), slice);
    }
}

fn slice_name(service: &str, family: &str) -> String {
    format!("{service}-{}", family.to_lowercase())
}

/// A thread with a runtime, inside a host.
fn inside<F: Future>(
    host: &Host,
    work: impl FnOnce() -> F + Send + 'static,
) -> std::thread::JoinHandle<F::Output>
where
    F::Output: Send + 'static,
{
    host.spawn(|| runtime().block_on(work()))
}

fn runtime() -> tokio::runtime::Runtime {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.expect("runtime")
}

/// Runs the proxy; every word cuts it off in the middle of what it does, and starts another one. Ends with the sender.
fn proxies(api: &Api, mut words: UnboundedReceiver<()>) {
    let arguments = ["--cluster-cidr=10.244.0.0/16,fd10:244::/32".to_owned()];
    let settings = Settings::parse(&arguments, |_| unreachable!("no file is named")).expect("settings");
    let mut word = Some(());
    while word.is_some() {
        // As with a process, nothing is left of one but what the kernel has.
        word = runtime().block_on(async {
            let config = settings.proxy_config(api.client(), "node1".to_owned());
            tokio::select! {
                ended = knode_proxy::run(config, std::future::pending()) => panic!("the proxy ended: {ended:?}"),
                word = words.recv() => word,
            }
        });
    }
}

/// What a client has seen.
#[derive(Debug, Default)]
struct Seen {
    good: u64,
    bad: Vec<String>,
}

impl Seen {
    fn add(&mut self, outcome: Result<u64, String>) {
        match outcome {
            Ok(number) => self.good += number,
            Err(error) => self.bad.push(error),
        }
    }
}

/// Connects and reads what the pod says, again and again.
async fn asking(to: SocketAddr, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let answer = tokio::time::timeout(BOUND, answer(to)).await;
        let answer = answer.map_err(|_| format!("{to}: no answer within {BOUND:?}"));
        seen.add(answer.and_then(|read| read.map_err(|error| format!("{to}: {error}"))));
    }
    seen
}

async fn answer(to: SocketAddr) -> std::io::Result<u64> {
    let mut text = String::new();
    TcpStream::connect(to).await?.read_to_string(&mut text).await?;
    if text.is_empty() {
        return Err(std::io::Error::other("an empty answer"));
    }
    Ok(1)
}

/// Keeps one connection and says something on it again and again.
async fn talking(to: SocketAddr, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let mut stream = match TcpStream::connect(to).await {
        Ok(stream) => stream,
        Err(error) => {
            seen.add(Err(format!("{to}: connecting: {error}")));
            return seen;
        }
    };
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let said = tokio::time::timeout(BOUND, echoed(&mut stream, seen.good)).await;
        let said = said.map_err(|_| format!("{to}: no echo within {BOUND:?}"));
        let outcome = said.and_then(|echo| echo.map_err(|error| format!("{to}: {error}")));
        let broken = outcome.is_err();
        seen.add(outcome);
        if broken {
            break;
        }
    }
    seen
}

async fn echoed(stream: &mut TcpStream, number: u64) -> std::io::Result<u64> {
    let mut back = [0; 8];
    stream.write_all(&number.to_be_bytes()).await?;
    stream.read_exact(&mut back).await?;
    if back != number.to_be_bytes() {
        return Err(std::io::Error::other("another echo"));
    }
    Ok(1)
}

/// Says everything back, until told to end.
async fn echo_server(mut stop: watch::Receiver<bool>) {
    let listener = TcpListener::bind(("::", ECHO)).await.expect("listen");
    loop {
        let (mut stream, _) = tokio::select! {
            accepted = listener.accept() => accepted.expect("accept"),
            _ = stop.wait_for(|stop| *stop) => return,
        };
        tokio::spawn(async move {
            let (mut from, mut to) = stream.split();
            // A client that has gone away is no failure of the server.
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });
    }
}

/// One client of each address that asks, and four of each that keep their connection.
async fn clients(
    asked: [SocketAddr; 2],
    kept: [SocketAddr; 2],
    stop: Arc<AtomicBool>,
) -> Vec<(SocketAddr, Seen)> {
    let asking = asked.map(|to| asking(to, stop.clone()).map(move |seen| (to, seen)).boxed());
    let talking = [kept; 4]
        .into_iter()
        .flatten()
        .map(|to| talking(to, stop.clone()).map(move |seen| (to, seen)).boxed());
    futures::future::join_all(asking.into_iter().chain(talking)).await
}

fn at(ips: [&str; 2], port: u16) -> [SocketAddr; 2] {
    ips.map(|ip| SocketAddr::new(ip.parse().expect("address"), port))
}

/// Services that have nothing to do with those under load come and go; those come to other endpoints, and the proxy
/// is cut off. Answers the numbers of the Services that are there in the end.
async fn change_everything(api: &Api, cut: &UnboundedSender<()>) -> BTreeSet<u32> {
    let mut there = BTreeSet::new();
    let mut tick = tokio::time::interval(PACE);
    for change in 0..CHANGES {
        tick.tick().await;
        let name = |number: u32| format!("passing-{number}");
        match (change % 4, change / 4) {
            (0, number) => {
                let ips = passing_ips(number);
                set_service(api, &name(number), ips.each_ref().map(String::as_str), &PASSING);
                there.insert(number);
            }
            (1, number) => set_slices(api, &name(number), &[0, 1], &PASSING),
            // Some stay.
            (_, number) if number % 5 == 0 => {}
            (2, number) => {
                for family in ["IPv4", "IPv6"] {
                    api.delete("endpointslices", &slice_name(&name(number), family));
                }
            }
            (_, number) => {
                api.delete("services", &name(number));
                there.remove(&number);
            }
        }
        if change % ROLL == 0 {
            let pods: &[usize] = [&[0][..], &[0, 1], &[1]][(change / ROLL) as usize % 3];
            set_slices(api, "web", pods, &WEB);
            set_slices(api, "talk", pods, &TALK);
        }
        if change % CUT == CUT - 1 {
            cut.send(()).expect("the proxy's thread");
        }
    }
    there
}

fn passing_ips(number: u32) -> [String; 2] {
    [
        format!("10.96.{}.{}", 1 + number / 250, number % 250 + 1),
        format!("fd10:96::1:{number:x}"),
    ]
}

/// Asks until there is an answer.
fn until_served(host: &Host, ip: &str, port: u16) {
    let asked = host.run(|| {
        runtime().block_on(async {
            let mut last = String::new();
            for _ in 0..500 {
                match ask(ip, port) {
                    Ok(_) => return Ok(()),
                    Err(error) => last = error.to_string(),
                }
                tokio::time::sleep(PACE).await;
            }
            Err(last)
        })
    });
    asked.unwrap_or_else(|error| panic!("{ip}:{port} is not served: {error}"));
}

#[test]
fn nothing_fails_while_everything_changes() {
    let net = Net::new();
    let api = Api::default();
    set_service(&api, "web", WEB_IPS, &WEB);
    set_service(&api, "talk", TALK_IPS, &TALK);
    set_slices(&api, "web", &[0, 1], &WEB);
    set_slices(&api, "talk", &[0, 1], &TALK);
    let (cut, words) = unbounded_channel();
    let (ending, end) = watch::channel(false);
    let echoes = [0, 1].map(|pod| {
        let end = end.clone();
        inside(&net.pods[pod], move || echo_server(end))
    });
    let fed = api.clone();
    let proxy = net.node.spawn(move || proxies(&fed, words));
    for ip in WEB_IPS {
        until_served(&net.pods[0], ip, 80);
    }
    until_served(&net.client, NODE6, 30080);

    let stop = Arc::new(AtomicBool::new(false));
    let within = [at(WEB_IPS, 80), at(TALK_IPS, ECHO)];
    let without = [at([NODE, NODE6], 30080), at([NODE, NODE6], 30007)];
    let loads = [
        (&net.pods[0], within),
        (&net.node, within),
        (&net.client, without),
    ]
    .map(|(host, [asked, kept])| {
        let stop = stop.clone();
        inside(host, move || clients(asked, kept, stop))
    });
    let there = runtime().block_on(change_everything(&api, &cut));
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        for (to, seen) in load.join().expect("the clients end") {
            assert_eq!(
                seen.bad,
                Vec::<String>::new(),
                "{to}, beside {} good ones",
                seen.good
            );
            assert!(seen.good > 50, "{to}: only {}", seen.good);
        }
    }
    for number in &there {
        for ip in passing_ips(*number) {
            until_served(&net.pods[0], &ip, 80);
        }
    }
    assert!(!there.contains(&1), "it went");
    for ip in passing_ips(1) {
        let asked = net.pods[0].run(|| ask_briefly(&ip, 80));
        assert!(asked.is_err(), "{ip} is served still: {asked:?}");
    }
    drop(cut);
    proxy.join().expect("the proxy's thread ends");
    ending.send(true).expect("the echoes run");
    for echo in echoes {
        echo.join().expect("the echo ends");
    }
}
