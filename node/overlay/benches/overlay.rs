//! One node's overlay in a process of its own, leases in a real etcd: time from its start to the subnet file, and with
//! 1, 100 and 1,000 peers until all are programmed, until one more is, and the memory that the process then has.
//! Needs root and Debian's etcd; `cargo bench -p knode-overlay`. Prints one line a measurement. With `KNODE_BIN` that
//! binary's `flanneld` is measured instead of the overlay alone.

#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/etcd/server.rs"]
mod server;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Fabric, Host};
use knode_overlay::{
    Access, BackendData, Config, Desired, Etcd, EtcdConfig, EtcdLeases, Kernel, Lease, LeaseAttributes,
    Leases, NetConf, Observed, Overlay, Prefix, Wish, plan,
};
use server::Cluster;

const PREFIX: &str = "/coreos.com/network";
const ENDPOINT: &str = "http://192.0.2.1:2379";
/// The bench runs itself again as the node, with the subnet file's path here.
const NODE: &str = "KNODE_BENCH_NODE";
const SIZES: [u16; 3] = [1, 100, 1000];
const STARTS: usize = 20;
/// The daemon gives back what only the start needed after five seconds.
const SETTLING: Duration = Duration::from_secs(6);
const BOUND: Duration = Duration::from_secs(60);

fn conf() -> NetConf {
    NetConf::vxlan("10.0.0.0/8".parse().unwrap())
}

fn main() {
    match std::env::var_os(NODE) {
        Some(file) => node(PathBuf::from(file)),
        None => bench(),
    }
}

/// The node: what `knode flanneld` does, and nothing else.
fn node(subnet_file: PathBuf) {
    let work = async move {
        let etcd = Etcd::new(access()).unwrap();
        let store = EtcdConfig::new(Prefix::new(PREFIX), conf(), subnet_file.clone());
        let config = Config {
            conf: conf(),
            wish: Wish::default(),
            masquerade: true,
            subnet_file,
        };
        let overlay = Overlay::open(config, Arc::new(EtcdLeases::start(etcd, store))).unwrap();
        overlay.run().await.unwrap();
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work);
}

fn access() -> Access {
    Access {
        endpoints: vec![ENDPOINT.to_owned()],
        ..Access::default()
    }
}

fn bench() {
    starts();
    for size in SIZES {
        converges(size);
    }
}

fn starts() {
    let fabric = Fabric::new();
    let host = Host::new(&fabric, 1);
    let _cluster = etcd(&host);
    let mut times: Vec<_> = (0..STARTS)
        .map(|_| {
            let begun = Instant::now();
            let node = Node::start(&host);
            node.wait("the subnet file", || host.subnet_file().exists());
            let took = begun.elapsed();
            drop(node);
            host.links
                .execute(knode_netlink::delete_link("flannel.1"))
                .unwrap();
            std::fs::remove_file(host.subnet_file()).unwrap();
            took
        })
        .collect();
    times.sort();
    println!(
        "start to subnet.env: median {:?}, worst {:?} of {STARTS} (goal 50 ms; upstream 150 to 290 ms)",
        times[STARTS / 2],
        times[STARTS - 1]
    );
}

fn converges(size: u16) {
    let fabric = Fabric::new();
    let host = Host::new(&fabric, 1);
    let cluster = etcd(&host);
    write(&host, &cluster, 0..size);
    let begun = Instant::now();
    let node = Node::start(&host);
    node.wait("all peers", || programmed(&host, size));
    let cold = begun.elapsed();
    let memory = node.pss();
    node.wait("the start to be over", || begun.elapsed() > SETTLING);
    let settled = node.pss();

    let begun = Instant::now();
    write(&host, &cluster, size..size + 1);
    node.wait("one more peer", || programmed(&host, size + 1));
    let one = begun.elapsed();
    drop(node);

    // Peers that come while the node runs.
    host.links
        .execute(knode_netlink::delete_link("flannel.1"))
        .unwrap();
    cluster.ctl(&["del", "--prefix", &format!("{PREFIX}/subnets/10.")]);
    let node = Node::start(&host);
    node.wait("the subnet file", || host.subnet_file().exists());
    let begun = Instant::now();
    write(&host, &cluster, 0..size);
    let written = begun.elapsed();
    node.wait("all peers", || programmed(&host, size));
    let burst = begun.elapsed();
    let operations = operations(size);
    println!(
        "{size} peers: {cold:?} from start to all programmed (goal at 1000: 1 s), {operations} netlink operations in \
         {} messages; one more after {one:?}; {size} new ones after {burst:?}, of which etcd's writes {written:?}; \
         {memory} kB PSS, {settled} once the start was over (goal 10000)",
        operations.div_ceil(64),
    );
}

/// Whether so many peers' routes are there; they are set last.
fn programmed(host: &Host, size: u16) -> bool {
    host.destinations("flannel.1").len() == usize::from(size)
}

/// What the planner asks of the kernel for so many peers at once.
fn operations(size: u16) -> usize {
    let fabric = Fabric::new();
    let host = Host::new(&fabric, 1);
    let underlay = host
        .netns
        .run(|| Kernel::open().unwrap().underlay(&Wish::default()).unwrap())
        .unwrap();
    let peers = (0..size).map(lease).map(|l| (l.subnet, l)).collect();
    let leases = Leases { own: None, peers };
    let sides = Desired::of(&conf(), &underlay, &lease(60_000), Some(&leases));
    sides
        .iter()
        .map(|side| plan(side, &Observed::default()).len())
        .sum()
}

fn lease(n: u16) -> Lease {
    let [high, low] = (n + 256).to_be_bytes();
    let mac = knode_netlink::MacAddr([0x0a, 0, 0, 0, high, low]);
    let attributes = LeaseAttributes::ipv4([198, 18, high, low].into(), BackendData::Vxlan { vni: 1, mac });
    Lease::ipv4(format!("10.{high}.{low}.0/24").parse().unwrap(), attributes)
}

/// Writes leases as other nodes would, many at once.
fn write(host: &Host, cluster: &Cluster, peers: std::ops::Range<u16>) {
    let etcd = cluster.client();
    let put = |n| {
        let (lease, etcd) = (lease(n), etcd.clone());
        let key = format!("{PREFIX}/subnets/{}", lease.subnet.to_string().replace('/', "-"));
        async move { etcd.put(&key, &lease.attributes.to_json()).await.unwrap() }
    };
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { futures::future::join_all(peers.map(put)).await });
    };
    let roomy = || std::thread::scope(|scope| scope.spawn(work).join().unwrap());
    host.netns.run(roomy).unwrap();
}

fn flanneld(binary: OsString, host: &Host) -> Command {
    let mut command = Command::new(binary);
    command
        .args([
            "flanneld",
            "-etcd-endpoints",
            ENDPOINT,
            "-ip-masq",
            "-subnet-file",
        ])
        .arg(host.subnet_file());
    command
}

/// An etcd on the host, with the network's configuration.
fn etcd(host: &Host) -> Cluster {
    let cluster = Cluster::start_at(host.netns.clone(), "192.0.2.1");
    let conf = r#"{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}"#;
    cluster.ctl(&["put", &format!("{PREFIX}/config"), conf]);
    cluster
}

/// The node's process.
struct Node {
    child: Child,
}

impl Node {
    fn start(host: &Host) -> Self {
        let mut command = match std::env::var_os("KNODE_BIN") {
            Some(binary) => flanneld(binary, host),
            None => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.env(NODE, host.subnet_file());
                command
            }
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = host.netns.run(|| command.spawn()).unwrap().unwrap();
        Self { child }
    }

    /// Looks often: what is measured is short.
    fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let end = Instant::now() + BOUND;
        while !done() {
            assert!(Instant::now() < end, "{what} did not come");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Proportional set size, kB.
    fn pss(&self) -> usize {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(Path::new(&path)).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
