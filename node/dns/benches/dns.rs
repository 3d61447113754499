//! Questions per second over real UDP sockets, with a thousand and ten thousand Services of three endpoints each: one
//! thread answers, others ask. Beside dnsmasq with the same names from a file of hosts, where it is installed. Every
//! size has a network namespace of its own.
//!
//! `cargo bench -p knode-dns` measures all; `-- --sizes 1000 --seconds 1` is brief. Closes with a table in Markdown.
#![allow(
    clippy::disallowed_methods,
    reason = "it lasts as long as it is told to, and nobody waits for it"
)]

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use knode_dns::Server;
use knode_dns::forward::{CacheLimits, Forwarder};
use knode_dns::model::{Addresses, Endpoint, Model, Port, Protocol, Service, Slice};
use knode_dns::zone::Zone;

const OURS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5301);
const DNSMASQ: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5302);
/// Questions that each client has under way.
const WINDOW: usize = 16;
const CLIENTS: u16 = 2;

struct Options {
    sizes: Vec<u32>,
    seconds: u64,
}

impl Options {
    fn read() -> Self {
        let mut options = Self {
            sizes: vec![1_000, 10_000],
            seconds: 5,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().expect("the option has a value");
            match argument.as_str() {
                "--sizes" => {
                    options.sizes = value().split(',').map(|n| n.parse().expect("a number")).collect()
                }
                "--seconds" => options.seconds = value().parse().expect("a number"),
                // Cargo's own.
                _ => {}
            }
        }
        options
    }
}

fn main() {
    if let Ok(services) = std::env::var(SERVE) {
        serve(services.parse().expect("a number"));
    }
    let options = Options::read();
    let mut rows = Vec::new();
    for services in options.sizes {
        let seconds = Duration::from_secs(options.seconds);
        let measure = move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("this benchmark needs root");
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.expect("ip is installed").success());
            (ours(services, seconds), dnsmasq(services, seconds))
        };
        let (own, peer) = std::thread::spawn(measure).join().expect("the measurement ends");
        rows.push(format!("| {services} | knode | {own} |"));
        if let Some(peer) = peer {
            rows.push(format!("| {services} | dnsmasq | {peer} |"));
        }
    }
    println!(
        "\n| services | server | questions a second of its CPU time | a second by the clock | p50 | p99 | resident memory |"
    );
    println!("|---|---|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
}

fn name(number: u32) -> String {
    format!("service-{number}.namespace-{}", number % 50)
}

fn cluster_ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + number)
}

fn model(services: u32) -> Model {
    let port = |number| Port {
        name: "http".into(),
        protocol: Protocol::Tcp,
        number: NonZeroU16::new(number),
    };
    let mut model = Model::default();
    for number in 0..50 {
        model.add_namespace(&format!("namespace-{number}"));
    }
    for number in 0..services {
        let key = format!("namespace-{}/service-{number}", number % 50);
        let own = Addresses::Cluster([cluster_ip(number).into()].into());
        model.set_service(&key, Some(Service::new(own, [port(80)])));
        let first = u32::from(Ipv4Addr::new(172, 16, 0, 0)) + number * 3;
        let endpoints = (0..3).map(|n| Endpoint::new(Ipv4Addr::from(first + n).into(), None));
        model.set_slice(
            &format!("{key}-x"),
            Some((&key, Slice::new([port(8080)], endpoints))),
        );
    }
    model
}

/// What came out for one server.
struct Outcome {
    by_cpu: f64,
    by_clock: f64,
    p50: Duration,
    p99: Duration,
    memory: u64,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (p50, p99) = (self.p50.as_micros(), self.p99.as_micros());
        write!(
            f,
            "{:.0} | {:.0} | {p50} µs | {p99} µs | {:.1} MiB",
            self.by_cpu,
            self.by_clock,
            self.memory as f64 / 1_048_576.0
        )
    }
}

/// Set for the process that answers, so that its memory and time are its own: how many Services it has.
const SERVE: &str = "KNODE_DNS_BENCH_SERVE";

fn ours(services: u32, seconds: Duration) -> Outcome {
    let own = std::env::current_exe().expect("the own program");
    let mut child = Command::new(own)
        .env(SERVE, services.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("start the server");
    let outcome = load(OURS, services, seconds, &child);
    child.kill().expect("end the server");
    child.wait().expect("wait for the server");
    outcome
}

fn serve(services: u32) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let zone = Zone {
            origin: Name::from_ascii("cluster.local.").expect("a name"),
            ttl: 30,
            own_ips: vec![OURS.ip()],
        };
        let forwarder = Arc::new(Forwarder::new(&[], &[], CacheLimits::default()));
        let model = Arc::new(RwLock::new(model(services)));
        let server = Arc::new(Server::new(zone, model, forwarder, true));
        let socket = tokio::net::UdpSocket::bind(OURS).await.expect("bind");
        server.serve_udp(socket).await;
    });
    unreachable!("it is served for ever")
}

/// dnsmasq with the same names, where it is installed.
fn dnsmasq(services: u32, seconds: Duration) -> Option<Outcome> {
    let path = std::env::temp_dir().join(format!("knode-dns-bench-{}.hosts", std::process::id()));
    let mut hosts = std::fs::File::create(&path).expect("make the file");
    for number in 0..services {
        writeln!(hosts, "{} {}.svc.cluster.local", cluster_ip(number), name(number)).expect("write the file");
    }
    let child = Command::new("dnsmasq")
        .args([
            "--no-daemon",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--user=root",
            "--pid-file=",
        ])
        .args([
            "--listen-address=127.0.0.1",
            "--local-ttl=30",
            "--local=/cluster.local/",
        ])
        .arg(format!("--port={}", DNSMASQ.port()))
        .arg(format!("--addn-hosts={}", path.display()))
        .stderr(Stdio::null())
        .spawn();
    let outcome = child.ok().map(|mut child| {
        let outcome = load(DNSMASQ, services, seconds, &child);
        child.kill().expect("end dnsmasq");
        child.wait().expect("wait for dnsmasq");
        outcome
    });
    std::fs::remove_file(&path).expect("remove the file");
    outcome
}

/// Asks for all names in turn.
fn load(server: SocketAddr, services: u32, seconds: Duration, child: &Child) -> Outcome {
    let questions: Arc<Vec<Vec<u8>>> = Arc::new((0..services).map(question).collect());
    wait_for(server, &questions[0]);
    let stop = Arc::new(AtomicBool::new(false));
    let (began, cpu) = (Instant::now(), cpu_time(child));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (questions, stop) = (questions.clone(), stop.clone());
            std::thread::spawn(move || ask(server, &questions, usize::from(client), &stop))
        })
        .collect();
    std::thread::sleep(seconds);
    stop.store(true, Ordering::Relaxed);
    let mut times: Vec<Duration> = clients
        .into_iter()
        .flat_map(|client| client.join().expect("the client ends"))
        .collect();
    let (took, cpu) = (began.elapsed(), cpu_time(child) - cpu);
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Outcome {
        by_cpu: times.len() as f64 / cpu.as_secs_f64(),
        by_clock: times.len() as f64 / took.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        memory: memory(child),
    }
}

fn question(number: u32) -> Vec<u8> {
    let full = format!("{}.svc.cluster.local.", name(number));
    let mut message = Message::query();
    message.add_query(Query::query(
        Name::from_ascii(full).expect("a name"),
        RecordType::A,
    ));
    message.metadata.recursion_desired = true;
    message.to_vec().expect("a message")
}

fn wait_for(server: SocketAddr, question: &[u8]) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("set the time");
    for _ in 0..150 {
        // A server that is not there yet refuses.
        let _ = socket.send_to(question, server);
        if socket.recv(&mut [0; 512]).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{server} does not answer");
}

/// Keeps a window of questions under way; the answers' times. Each must be an address.
fn ask(server: SocketAddr, questions: &[Vec<u8>], start: usize, stop: &AtomicBool) -> Vec<Duration> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    socket.connect(server).expect("connect");
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("set the time");
    let mut sent = vec![Instant::now(); WINDOW];
    let mut times = Vec::with_capacity(1 << 20);
    let mut next = start * questions.len() / usize::from(CLIENTS);
    let mut buffer = [0; 512];
    let mut send = |slot: usize, sent: &mut Vec<Instant>| {
        let mut question = questions[next % questions.len()].clone();
        next += 1;
        let id = u16::try_from(slot).expect("a small number").to_be_bytes();
        question[..2].copy_from_slice(&id);
        sent[slot] = Instant::now();
        socket.send(&question).expect("send");
    };
    for slot in 0..WINDOW {
        send(slot, &mut sent);
    }
    while !stop.load(Ordering::Relaxed) {
        let length = socket.recv(&mut buffer).expect("an answer");
        let slot = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
        times.push(sent[slot].elapsed());
        assert!(
            length > 30 && buffer[3] & 0xF == 0 && buffer[7] == 1,
            "one address: {:?}",
            &buffer[..12]
        );
        send(slot, &mut sent);
    }
    times
}

/// What the kernel says of the process, from this field of its `stat` on.
fn cpu_time(child: &Child) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("read stat");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u64 = [11, 12]
        .iter()
        .map(|at| fields[*at].parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}

fn memory(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("read status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
