//! The proxy as a process of its own, fed by an API server's watches: from its start to the programmed kernel, from
//! an event on the wire to the kernel, its memory, and its CPU under changes.

use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use knode_client::Access;
use knode_nft::{Notice, Watcher};
use knode_proxy::config::Settings;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::{Kind, Server};
use crate::objects::{self, Cluster, last_slice, service_object, slice_object};
use crate::options::{Options, PROXY};
use crate::packets;
use crate::report::{Report, shown};

const METRICS: &str = "127.0.0.1:10249";
const SYNCS: &str = "kubeproxy_sync_proxy_rules_duration_seconds_count";
const ROUNDS: u32 = 100;
const FEW: u32 = 10;
/// A change that has not come to the kernel by then has not come at all.
const BOUND: Duration = Duration::from_secs(600);
/// Notices of one change that come one after another.
const QUIET: Duration = Duration::from_millis(5);
/// After that nothing more comes.
const SILENCE: Duration = Duration::from_millis(500);
/// Changes a second.
const RATE: u32 = 100;
/// An event on the wire: the watched kind, what happened, the object.
type Event = (Kind, &'static str, Value);

/// What the started process does: it is the proxy of this mode until it is killed.
pub fn serve(server: SocketAddr, mode: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let ended = runtime.block_on(async {
        let access = Access {
            server: format!("http://{server}"),
            ..Access::default()
        };
        let client = knode_client::connect(&access).expect("a client").client;
        let nodes = "--nodeport-addresses=10.244.0.0/16".to_owned();
        let arguments = [
            format!("--cluster-cidr={}", objects::PODS),
            format!("--proxy-mode={mode}"),
            nodes,
        ];
        let settings = Settings::parse(&arguments, |_| unreachable!("no file is named"));
        let config = settings
            .expect("settings")
            .proxy_config(client, "node1".to_owned());
        knode_proxy::run(config, std::future::pending()).await
    });
    eprintln!("the proxy ended: {ended:?}");
    ExitCode::FAILURE
}

/// Starts the process in the mode iptables, which is measured from outside: what is changed there can't be watched.
pub fn measure_iptables(cluster: &Cluster, report: &mut Report) {
    const WHOSE: &str = "mode iptables";
    runtime().block_on(async {
        let (server, address) = Server::start(*cluster).await;
        let began = Instant::now();
        let proxy = Proxy::start(address, "iptables");
        until_synced(0).await;
        report.note(
            &format!("{WHOSE}: process started to kernel programmed"),
            shown(began.elapsed()),
        );
        let mut times = Vec::new();
        for number in cluster.services..cluster.services + FEW {
            server.tell(Kind::Slice, "ADDED", slice_object(number, 0..objects::ENDPOINTS));
            tokio::time::sleep(SILENCE).await;
            let before = syncs().await.expect("metrics");
            let began = Instant::now();
            server.tell(Kind::Service, "ADDED", service_object(number));
            until_synced(before).await;
            times.push(began.elapsed());
        }
        report.spread(
            &format!("{WHOSE}: event to kernel, a service with three endpoints comes: p50 / p99"),
            times,
        );
        report.note(&format!("{WHOSE}: memory of the process (PSS)"), proxy.pss());
    });
    packets::measure(cluster, WHOSE, report);
}

fn runtime() -> tokio::runtime::Runtime {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.expect("a runtime")
}

/// Starts the process and measures it.
pub fn measure(cluster: &Cluster, options: &Options, report: &mut Report) {
    runtime().block_on(async {
        let (server, address) = Server::start(*cluster).await;
        let began = Instant::now();
        let proxy = Proxy::start(address, "nftables");
        until_synced(0).await;
        report.note("process started to kernel programmed", shown(began.elapsed()));
        one_by_one(cluster, &server, report).await;
        let used = under_changes(cluster, &server, &proxy, options.seconds).await;
        report.note(&format!("CPU of the process at {RATE} changes/s"), used);
        report.note(
            "– after the last of them, until all are in the kernel",
            shown(rest().await),
        );
        report.note("memory of the process (PSS), after changes", proxy.pss());
    });
    packets::measure(cluster, "knode", report);
}

/// The running process; dropping it kills it.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.kill().expect("kill the proxy");
        self.0.wait().expect("wait for the proxy");
    }
}

impl Proxy {
    fn start(server: SocketAddr, mode: &str) -> Self {
        let this = std::env::current_exe().expect("this program's path");
        let mut command = Command::new(this);
        command.args([PROXY, &server.to_string(), mode]);
        Self(command.spawn().expect("start the proxy"))
    }

    fn read(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.0.id());
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn pss(&self) -> String {
        let rollup = self.read("smaps_rollup");
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        format!("{:.1} MB", kib.expect("a size") * 1024.0 / 1e6)
    }

    /// Time on a processor so far, of all threads.
    fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).expect("threads");
        let of = |task: std::fs::DirEntry| {
            let stat = self.read(&format!("task/{}/schedstat", task.file_name().display()));
            let nanos: Option<u64> = stat.split_whitespace().next().and_then(|text| text.parse().ok());
            Duration::from_nanos(nanos.expect("nanoseconds"))
        };
        tasks.map(|task| of(task.expect("a thread"))).sum()
    }
}

/// Waits until more syncs than these are counted.
async fn until_synced(before: u64) {
    let synced = async {
        while syncs().await.is_none_or(|count| count <= before) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let in_time = tokio::time::timeout(BOUND, synced).await;
    in_time.expect("the proxy has not programmed the kernel");
}

/// Syncs of both families so far; none if the proxy does not answer.
async fn syncs() -> Option<u64> {
    let metrics = metrics().await?;
    let counts = metrics.lines().filter(|line| line.starts_with(SYNCS));
    Some(
        counts
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum(),
    )
}

async fn metrics() -> Option<String> {
    let mut stream = TcpStream::connect(METRICS).await.ok()?;
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// From an event to the kernel's notice of the change.
async fn one_by_one(cluster: &Cluster, server: &Server, report: &mut Report) {
    let mut watcher = Watcher::open(None).expect("a watcher");
    let all = last_slice(cluster.endpoints);
    let (mut endpoints, mut services) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for listed in [all.start..all.end - 1, all.clone()] {
            let object = slice_object(cluster.middle(), listed);
            endpoints.push(to_kernel(server, &mut watcher, (Kind::Slice, "MODIFIED", object)).await);
        }
        let number = cluster.services + round;
        server.tell(Kind::Slice, "ADDED", slice_object(number, 0..objects::ENDPOINTS));
        let object = service_object(number);
        services.push(to_kernel(server, &mut watcher, (Kind::Service, "ADDED", object)).await);
    }
    report.spread("event to kernel, an endpoint goes or comes: p50 / p99", endpoints);
    report.spread(
        "event to kernel, a service with three endpoints comes: p50 / p99",
        services,
    );
}

async fn to_kernel(server: &Server, watcher: &mut Watcher, (kind, event, object): Event) -> Duration {
    let began = Instant::now();
    server.tell(kind, event, object);
    let notices = tokio::time::timeout(BOUND, watcher.next()).await;
    let took = began.elapsed();
    let notices = notices
        .expect("the change has not come to the kernel")
        .expect("notices");
    assert!(
        !notices.contains(&Notice::Lost),
        "the kernel lost notices of one change"
    );
    while tokio::time::timeout(QUIET, watcher.next()).await.is_ok() {}
    took
}

/// How long changes still come to the kernel.
async fn rest() -> Duration {
    let mut watcher = Watcher::open(None).expect("a watcher");
    let began = Instant::now();
    let mut took = Duration::ZERO;
    while tokio::time::timeout(SILENCE, watcher.next()).await.is_ok() {
        took = began.elapsed();
    }
    took
}

/// Services and their slices come and go; percent of a core that the process uses meanwhile.
async fn under_changes(cluster: &Cluster, server: &Server, proxy: &Proxy, seconds: u32) -> String {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    let first = cluster.services + ROUNDS;
    let (began, before) = (Instant::now(), proxy.cpu());
    for change in 0..RATE * seconds {
        tick.tick().await;
        let number = first + change / 4;
        let (kind, event) = [
            (Kind::Service, "ADDED"),
            (Kind::Slice, "ADDED"),
            (Kind::Slice, "DELETED"),
            (Kind::Service, "DELETED"),
        ][change as usize % 4];
        let object = if kind == Kind::Service {
            service_object(number)
        } else {
            slice_object(number, 0..objects::ENDPOINTS)
        };
        server.tell(kind, event, object);
    }
    tick.tick().await;
    let used = (proxy.cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    format!("{:.1} % of a core", used * 100.0)
}
