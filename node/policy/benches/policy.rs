//! Pods and policies of a cluster, from a hundred to ten thousand, seen from a node with a hundred pods of its own in
//! a fresh network namespace: cold load, take-over of the same table, one change after another, memory. Prints one
//! line a measurement; `cargo bench -p knode-policy`. `KNODE_BENCH_SMALL` leaves the large sizes out.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use knode_policy::Applier;
use knode_policy::convert;
use knode_policy::model::{ContainerPort, Key, Labels, Pod, Protocol};
use knode_policy::plan::Planner;
use knode_policy::table::NAME;
use serde_json::json;

/// Pods of the cluster and policies.
const SIZES: [(u32, u32); 3] = [(100, 20), (2_000, 200), (10_000, 1_000)];
const LOCAL: u32 = 100;
const SPACES: u32 = 20;
const APPS: u32 = 25;
const CHANGES: u32 = 100;

fn key(kind: &str, number: u32) -> Key {
    Key::new(&format!("ns-{}", number % SPACES), &format!("{kind}-{number}"))
}

fn pod(number: u32) -> Pod {
    let ip = Ipv4Addr::from(0x0af4_0000 + number);
    let app = format!("app-{}", number / SPACES % APPS);
    let labels: Labels = [
        ("app", app.as_str()),
        ("tier", "backend"),
        ("pod-template-hash", "7d9c5b6f4d"),
    ]
    .into_iter()
    .collect();
    Pod {
        labels: Arc::new(labels),
        ips: [IpAddr::V4(ip)].into(),
        ports: [ContainerPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }]
        .into(),
        local: number < LOCAL,
        created: i64::from(number),
    }
}

/// Lets one application of a namespace be reached by another and by one of another namespace, on a port by number
/// and one by name.
fn policy(number: u32) -> NetworkPolicy {
    let app = |number: u32| json!({"matchLabels": {"app": format!("app-{}", number % APPS)}});
    let space = json!({"matchLabels": {"name": format!("ns-{}", (number + 1) % SPACES)}});
    let peers = json!([{"podSelector": app(number / SPACES + 1)}, {"namespaceSelector": space, "podSelector": app(number)}]);
    let key = key("policy", number);
    let object = json!({
        "metadata": {"namespace": &*key.namespace, "name": &*key.name},
        "spec": {"podSelector": app(number / SPACES),
                 "ingress": [{"from": peers, "ports": [{"port": 8080}, {"port": "http"}]}]}
    });
    serde_json::from_value(object).expect("a policy")
}

/// Resident memory of this process in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("own status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a number")
}

fn report(what: &str, mut times: Vec<Duration>, commands: usize) {
    times.sort_unstable();
    let millis = |at: usize| times[at.min(times.len() - 1)].as_secs_f64() * 1000.0;
    println!(
        "{what:<44} p50 {:>8.3} ms   p99 {:>8.3} ms   {:.1} commands",
        millis(times.len() / 2),
        millis(times.len() * 99 / 100),
        commands as f64 / times.len() as f64
    );
}

fn main() {
    let small = std::env::var_os("KNODE_BENCH_SMALL").is_some();
    for (pods, policies) in SIZES.into_iter().take(if small { 1 } else { SIZES.len() }) {
        let thread = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("this benchmark needs root");
            measure(pods, policies);
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

fn measure(pods: u32, policies: u32) {
    println!("\n{pods} pods, {LOCAL} of them here, {policies} policies in {SPACES} namespaces");
    let empty = memory();
    let mut planner = Planner::default();
    for number in 0..SPACES {
        let name = format!("ns-{number}");
        let labels = [("name", name.as_str())].into_iter().collect();
        planner.set_namespace(&name.as_str().into(), Some(labels));
    }
    for number in 0..pods {
        planner.set_pod(&key("pod", number), Some(pod(number)));
    }
    let began = Instant::now();
    for number in 0..policies {
        planner.set_policy(&key("policy", number), Some(convert::policy(&policy(number))));
    }
    planner.take();
    line("policies planned", began.elapsed());
    println!(
        "{:<44} {:>8} KiB",
        "model and plan",
        memory().saturating_sub(empty)
    );
    let mut applier = Applier::open(NAME).expect("netlink");
    let began = Instant::now();
    let applied = applier.verify(&planner).expect("cold load");
    line("cold load", began.elapsed());
    println!(
        "{:<44} {:>8} KiB, {} commands",
        "on the wire",
        applied.bytes / 1024,
        applied.commands
    );
    let began = Instant::now();
    let taken = Applier::open(NAME)
        .expect("netlink")
        .verify(&planner)
        .expect("take over");
    assert!(!taken.repaired, "the table was right already");
    line("take-over of the same table", began.elapsed());
    changes(&mut planner, &mut applier, pods, policies);
}

fn line(what: &str, took: Duration) {
    println!("{what:<44} {:>12.2} ms", took.as_secs_f64() * 1000.0);
}

fn changes(planner: &mut Planner, applier: &mut Applier, pods: u32, policies: u32) {
    let mut measure = |what: &str, change: &mut dyn FnMut(&mut Planner, u32)| {
        let (mut times, mut commands) = (Vec::new(), 0);
        for round in 0..CHANGES {
            let began = Instant::now();
            change(planner, round);
            let changes = planner.take();
            commands += applier.update(planner, &changes).expect("update").commands;
            times.push(began.elapsed());
        }
        report(what, times, commands);
    };
    measure("a pod of another node comes", &mut |planner, round| {
        planner.set_pod(&key("pod", pods + round), Some(pod(pods + round)));
    });
    measure("it goes", &mut |planner, round| {
        planner.set_pod(&key("pod", pods + round), None)
    });
    measure("a pod of this node goes", &mut |planner, round| {
        planner.set_pod(&key("pod", round % LOCAL), None);
    });
    measure("it comes again", &mut |planner, round| {
        planner.set_pod(&key("pod", round % LOCAL), Some(pod(round % LOCAL)));
    });
    measure("a policy comes", &mut |planner, round| {
        let number = policies + round;
        planner.set_policy(&key("policy", number), Some(convert::policy(&policy(number))));
    });
    measure("it goes", &mut |planner, round| {
        planner.set_policy(&key("policy", policies + round), None)
    });
}
