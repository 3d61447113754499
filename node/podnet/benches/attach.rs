//! One pod connected and disconnected again: in process, through the CNI plugin as an engine runs it, and by Debian's
//! plugins `bridge` and `host-local` where they are installed. Prints one line a way. Needs root;
//! `cargo bench -p knode-podnet --bench attach`, with `-- --quick` for a few rounds.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use knode_netlink::{Handle, LinkChange, Netns, change_link};
use knode_podnet::{AddRequest, Config, PodNet, Subnet};
use knode_testkit::{Host, Scratch};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Where Debian puts them.
const UPSTREAM: &str = "/usr/lib/cni";
const SUBNET: &str = "172.30.65.0/24";

fn main() -> ExitCode {
    if std::env::var_os("CNI_COMMAND").is_some() {
        return plugin();
    }
    let rounds = if std::env::args().any(|a| a == "--quick") {
        10
    } else {
        300
    };
    let scratch = Scratch::new("bench-attach");
    println!(
        "{:<28} {:>10} {:>10} {:>10} {:>10}",
        "", "add p50", "p99", "remove p50", "p99"
    );
    let host = Host::new("in-process");
    host.block_on(async || report("in process", in_process(&scratch, rounds).await));
    let ours = std::env::current_exe().unwrap();
    let conf = json!({ "cniVersion": "1.0.0", "name": "pods", "type": "knode", "subnet": SUBNET, "mtu": 1450,
                       "dataDir": scratch.join("plugin") });
    let host = Host::new("plugin");
    report("CNI plugin", by_plugin(&host, &ours, &conf, rounds));
    let bridge = Path::new(UPSTREAM).join("bridge");
    if !bridge.exists() {
        println!("upstream's bridge: not installed (Debian's containernetworking-plugins)");
        return ExitCode::SUCCESS;
    }
    let ranges = json!([[{ "subnet": SUBNET }]]);
    let ipam = json!({ "type": "host-local", "dataDir": scratch.join("host-local"), "ranges": ranges });
    let conf = json!({ "cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0",
                       "isDefaultGateway": true, "hairpinMode": true, "mtu": 1450, "ipam": ipam });
    let host = Host::new("upstream");
    report(
        "upstream bridge, host-local",
        by_plugin(&host, &bridge, &conf, rounds),
    );
    ExitCode::SUCCESS
}

/// Times of each round: adding and removing.
type Times = Vec<(Duration, Duration)>;

async fn in_process(scratch: &Scratch, rounds: usize) -> Times {
    let subnet = Subnet {
        ipv4: SUBNET.parse::<Ipv4Net>().ok(),
        ipv6: None,
        mtu: 1450,
    };
    let (_, receiver) = watch::channel(Some(subnet));
    let net = PodNet::open(Config::new(scratch.join("in-process")), receiver).unwrap();
    let mut times = Times::new();
    for round in 0..rounds {
        let (pod, path) = pod();
        let id = format!("s{round}");
        let request = AddRequest::new(&id, path);
        let started = Instant::now();
        net.add(request).await.unwrap();
        let added = started.elapsed();
        let started = Instant::now();
        net.remove(&id).await.unwrap();
        times.push((added, started.elapsed()));
        drop(pod);
    }
    times
}

fn by_plugin(host: &Host, program: &Path, conf: &Value, rounds: usize) -> Times {
    let round = |round: usize| {
        let (pod, path) = pod();
        let id = format!("s{round}");
        let added = call(host, program, "ADD", (&id, &path), conf);
        let removed = call(host, program, "DEL", (&id, &path), conf);
        drop(pod);
        (added, removed)
    };
    (0..rounds).map(round).collect()
}

fn call(host: &Host, program: &Path, command: &str, (id, netns): (&str, &Path), conf: &Value) -> Duration {
    let mut process = host.command(program);
    process
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", id)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", UPSTREAM)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let started = Instant::now();
    let mut child = process.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(conf.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{} {command}: {text}", program.display());
    started.elapsed()
}

/// A pod's namespace, and where other processes find it.
fn pod() -> (Netns, PathBuf) {
    use std::os::fd::AsRawFd;
    let netns = Netns::anonymous().expect("root");
    let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd()));
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    Handle::open_in(&netns)
        .unwrap()
        .execute(change_link("lo", &up))
        .unwrap();
    (netns, path)
}

fn report(what: &str, times: Times) {
    let column = |of: fn(&(Duration, Duration)) -> Duration| {
        let mut column: Vec<_> = times.iter().map(of).collect();
        column.sort();
        let at = |share: f64| column[((column.len() - 1) as f64 * share) as usize];
        (at(0.5), at(0.99))
    };
    let (add, remove) = (column(|t| t.0), column(|t| t.1));
    let shown = |d: Duration| format!("{:.2} ms", d.as_secs_f64() * 1e3);
    let cells = [add.0, add.1, remove.0, remove.1].map(shown);
    println!(
        "{what:<28} {:>10} {:>10} {:>10} {:>10}",
        cells[0], cells[1], cells[2], cells[3]
    );
}

/// This program as the plugin.
fn plugin() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    if runtime.unwrap().block_on(knode_podnet::cni_process()).unwrap() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
