//! A thousand to thirty thousand Services with three endpoints each, and one with five thousand, each in a fresh
//! network namespace: cold load, take-over of the same table, one change after another. Prints one line a
//! measurement, beside what upstream 1.36.2 in its nftables mode took; `cargo bench -p knode-proxy`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use knode_proxy::Applier;
use knode_proxy::model::{
    Model, Name, Protocol, Service, ServicePort, Slice, SliceEndpoint, SlicePort, State,
};
use knode_proxy::table::{Locality, TableConfig};

/// Numbers of Services, with upstream's time from its start until all were programmed.
const SIZES: [(u32, &str); 4] = [
    (1_000, "0.85 s"),
    (5_000, "4.0 s"),
    (10_000, "15 to 35 s"),
    (30_000, "not measured"),
];
const MANY: u32 = 5_000;
const ENDPOINTS: u32 = 3;
const CHANGES: u32 = 100;

fn service(number: u32) -> Service {
    let node_port = if number < 1000 { 30_000 + number as u16 } else { 0 };
    Service {
        cluster_ips: [Ipv4Addr::from(0x0a60_0000 + number).into()].into(),
        ports: [ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port,
        }]
        .into(),
        ..Service::default()
    }
}

fn slice(number: u32, endpoints: u32) -> Slice {
    let endpoint = |index| {
        let ip = Ipv4Addr::from(0x0af4_0000 + (number * 4 + index) % 0xffff);
        SliceEndpoint::new(ip.into(), State::Ready, index == 0 && number < 100)
    };
    Slice {
        ports: [SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }]
        .into(),
        endpoints: (0..endpoints).map(endpoint).collect(),
    }
}

fn name(number: u32) -> String {
    format!("namespace-{}/service-{number}", number % 100)
}

fn set_slice(model: &mut Model, number: u32, endpoints: u32) -> BTreeSet<Name> {
    let owner = name(number);
    model
        .set_slice(
            &format!("{owner}-x7k2p"),
            Some((&owner, slice(number, endpoints))),
        )
        .into_iter()
        .collect()
}

/// Resident memory of this process in KiB, now and at its highest.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("own status");
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a field of the status");
        line.split_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .expect("a number")
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let millis = |at: usize| times[at.min(times.len() - 1)].as_secs_f64() * 1000.0;
    println!(
        "{what:<44} p50 {:>8.2} ms   p99 {:>8.2} ms",
        millis(times.len() / 2),
        millis(times.len() * 99 / 100)
    );
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}

fn main() {
    for (services, upstream) in SIZES {
        alone(move || measure(services, upstream));
    }
    alone(one_large_service);
}

/// Runs the work on a thread with a fresh network namespace.
fn alone(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("this benchmark needs root");
        work();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn one_large_service() {
    println!("\n1 service x {MANY} endpoints");
    let mut model = Model::default();
    model.set_service(&name(0), Some(service(0)));
    set_slice(&mut model, 0, MANY);
    let mut applier = Applier::open(TableConfig::default()).expect("netlink");
    let (_, took) = timed(|| applier.take_over(&model).expect("cold load"));
    println!("{:<44} {:>12.2} ms", "cold load", took.as_secs_f64() * 1000.0);
    let mut times = Vec::new();
    for round in 0..CHANGES {
        let (applied, took) = timed(|| {
            let dirty = set_slice(&mut model, 0, MANY - 1 - round % 2);
            applier.update(&model, dirty).expect("update")
        });
        assert!(applied.commands > 0, "nothing changed");
        times.push(took);
    }
    report("one endpoint goes or comes", times);
}

fn measure(services: u32, upstream: &str) {
    let config = TableConfig {
        locality: Locality::Cidrs(vec!["10.244.0.0/16".parse().expect("cidr")]),
        ..TableConfig::default()
    };
    let (empty, _) = memory();
    let mut model = Model::default();
    for number in 0..services {
        model.set_service(&name(number), Some(service(number)));
        set_slice(&mut model, number, ENDPOINTS);
    }
    let (modelled, _) = memory();
    println!("\n{services} services x {ENDPOINTS} endpoints, 1000 of them with a node port");
    println!("{:<44} {:>8} KiB", "model", modelled.saturating_sub(empty));
    let mut applier = Applier::open(config.clone()).expect("netlink");
    let (applied, took) = timed(|| applier.take_over(&model).expect("cold load"));
    println!(
        "{:<44} {:>12.2} ms, {} KiB on the wire (upstream {upstream})",
        "cold load",
        took.as_secs_f64() * 1000.0,
        applied.bytes / 1024
    );
    let (resident, highest) = memory();
    println!(
        "{:<44} {resident} KiB resident, {highest} KiB at the highest",
        "memory"
    );
    let mut successor = Applier::open(config).expect("netlink");
    let (taken, took) = timed(|| successor.take_over(&model).expect("take over"));
    assert!(!taken.repaired, "the table was right already");
    println!(
        "{:<44} {:>12.2} ms",
        "take-over of the same table",
        took.as_secs_f64() * 1000.0
    );
    changes(&mut model, &mut applier, services);
}

fn changes(model: &mut Model, applier: &mut Applier, services: u32) {
    let middle = services / 2;
    let mut measure = |what: &str, change: &mut dyn FnMut(&mut Model, u32) -> BTreeSet<Name>| {
        let mut times = Vec::new();
        for round in 0..CHANGES {
            let (applied, took) = timed(|| {
                let dirty = change(model, round);
                applier.update(model, dirty).expect("update")
            });
            assert!(applied.commands > 0, "{what}: nothing changed");
            times.push(took);
        }
        report(what, times);
    };
    measure("one endpoint goes", &mut |model, round| {
        set_slice(model, middle + round, 2)
    });
    measure("one endpoint comes", &mut |model, round| {
        set_slice(model, middle + round, 3)
    });
    measure("the last endpoint goes", &mut |model, round| {
        set_slice(model, middle + round, 0)
    });
    measure("a service with three endpoints comes", &mut |model, round| {
        let mut dirty = set_slice(model, services + round, ENDPOINTS);
        dirty.extend(model.set_service(&name(services + round), Some(service(services + round))));
        dirty
    });
    measure("a service goes", &mut |model, round| {
        model
            .set_service(&name(services + round), None)
            .into_iter()
            .collect()
    });
}
