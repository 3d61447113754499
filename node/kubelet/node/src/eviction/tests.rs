use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use knode_linux::filewatch::FileSystemUsage;
use serde_json::{Value, json};

use super::message::message;
use super::observe::{Observations, Sample};
use super::rank::{ContainerUse, PodUse, rank};
use super::state::EvictionState;
use super::*;
use crate::status::Pressure;

const MI: u64 = 1 << 20;

fn disk(available: u64, inodes_free: u64) -> FileSystemUsage {
    FileSystemUsage {
        capacity: 1000,
        available,
        used: 1000 - available,
        inodes: 1000,
        inodes_free,
    }
}

fn sample() -> Sample {
    Sample {
        memory_available: 200 * MI,
        memory: 1024 * MI,
        pods_memory: None,
        nodefs: disk(500, 500),
        imagefs: Some(disk(500, 500)),
        tasks: 100,
        max_tasks: 1000,
    }
}

fn observed(change: impl Fn(&mut Sample)) -> Observations {
    let mut sample = sample();
    change(&mut sample);
    sample.observations()
}

/// The signals that a first look acts upon.
fn acted_upon(config: &EvictionConfig, change: impl Fn(&mut Sample)) -> Vec<&'static str> {
    let step = EvictionState::default().step(config, &observed(change), Duration::ZERO);
    step.reclaim
        .iter()
        .map(|threshold| threshold.signal.name())
        .collect()
}

#[test]
fn hard_limits_are_upstreams() {
    let limits = EvictionConfig::default();
    let none: [&str; 0] = [];
    assert_eq!(acted_upon(&limits, |_| {}), none);
    type Change = fn(&mut Sample);
    let table: [(Change, &[&str]); 8] = [
        (|s| s.memory_available = 100 * MI - 1, &["memory.available"]),
        (|s| s.memory_available = 100 * MI, &[]),
        (|s| s.nodefs = disk(99, 500), &["nodefs.available"]),
        (|s| s.nodefs = disk(500, 49), &["nodefs.inodesFree"]),
        (|s| s.imagefs = Some(disk(149, 500)), &["imagefs.available"]),
        (|s| s.imagefs = Some(disk(151, 49)), &["imagefs.inodesFree"]),
        (|s| s.tasks = 1000, &[]),
        // A file system without a limit of inodes has none to run out of.
        (|s| s.nodefs.inodes = 0, &[]),
    ];
    for (number, (change, wanted)) in table.into_iter().enumerate() {
        assert_eq!(acted_upon(&limits, change), wanted, "row {number}");
    }
    let limits = limits.hard("pid.available<10%").unwrap();
    assert_eq!(acted_upon(&limits, |s| s.tasks = 950), ["pid.available"]);
    let both = |s: &mut Sample| (s.tasks, s.memory_available) = (950, 0);
    assert_eq!(
        acted_upon(&limits, both),
        ["memory.available", "pid.available"],
        "memory comes first"
    );
    let limits = limits.hard("memory.available<0%").unwrap();
    assert_eq!(acted_upon(&limits, both), ["pid.available"]);
}

#[test]
fn a_soft_limit_waits_and_a_pressure_stays_a_while() {
    let config = EvictionConfig::default()
        .soft("memory.available<300Mi", "memory.available=1m30s")
        .unwrap()
        .minimum_reclaim("memory.available=50Mi")
        .unwrap();
    let mut state = EvictionState::default();
    let mut look = |available: u64, now: u64| {
        let seen = observed(|sample| sample.memory_available = available * MI);
        let step = state.step(&config, &seen, Duration::from_secs(now));
        (step.reclaim.len(), step.pressure.memory)
    };
    assert_eq!(look(500, 0), (0, false));
    assert_eq!(look(299, 10), (0, true), "scarce is reported at once");
    assert_eq!(look(299, 99), (0, true));
    assert_eq!(look(299, 100), (1, true), "the time is over");
    assert_eq!(
        look(349, 110),
        (1, true),
        "more than the limit has to be free again"
    );
    assert_eq!(look(350, 120), (0, true));
    assert_eq!(look(299, 130), (0, true), "the time begins anew");
    assert_eq!(look(500, 429), (0, true), "five minutes have not passed");
    assert_eq!(look(500, 430), (0, false));
    assert_eq!(look(99, 440), (1, true), "the hard limit does not wait");
}

#[test]
fn all_pressures_are_told() {
    let config = EvictionConfig::default().hard("pid.available<10%").unwrap();
    let seen = observed(|s| (s.tasks, s.nodefs) = (950, disk(1, 500)));
    let step = EvictionState::default().step(&config, &seen, Duration::ZERO);
    let wanted = Pressure {
        memory: false,
        disk: true,
        pid: true,
    };
    assert_eq!(step.pressure, wanted);
}

#[test]
fn what_cannot_be_read_is_named() {
    let usual = EvictionConfig::default;
    let wrong = |result: Result<EvictionConfig, ThresholdError>| result.unwrap_err().to_string();
    assert!(wrong(usual().hard("cpu.available<1")).contains("\"cpu.available\""));
    assert!(wrong(usual().hard("memory.available")).contains("SIGNAL<VALUE"));
    assert!(wrong(usual().hard("memory.available<lots")).contains("\"lots\""));
    assert!(wrong(usual().hard("nodefs.available<101%")).contains("101%"));
    assert!(wrong(usual().soft("memory.available<1Gi", "")).contains("no grace period"));
    assert!(wrong(usual().soft("", "memory.available=1m")).contains("no soft threshold"));
    assert!(wrong(usual().soft("memory.available<1Gi", "memory.available=1")).contains("duration"));
    assert_eq!(duration("1h1m30s").unwrap(), Duration::from_secs(3690));
    assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
    let named = usual().hard("memory.available<1Gi,imagefs.available<1%").unwrap();
    assert_eq!(
        named.thresholds.len(),
        5,
        "signals that are not named keep their limits"
    );
}

fn pod(name: &str, priority: i32, request: &str, memory: u64) -> PodUse {
    let object: Value = json!({"metadata": {"name": name, "uid": name}, "spec": {"priority": priority,
        "containers": [{"name": "c", "resources": {"requests": {"memory": request}}}]}});
    PodUse {
        pod: Arc::new(serde_json::from_value::<Pod>(object).unwrap()),
        containers: vec![ContainerUse {
            name: "c".into(),
            memory,
            disk: 0,
        }],
        volumes: BTreeMap::new(),
        inodes: 0,
        processes: memory / MI,
    }
}

fn order(signal: Signal, pods: Vec<PodUse>) -> Vec<String> {
    let ranked = rank(signal, pods);
    ranked
        .iter()
        .map(|one| one.pod.metadata.name.clone().unwrap())
        .collect()
}

#[test]
fn who_uses_more_than_asked_for_goes_first() {
    let pods = || {
        vec![
            pod("modest", 0, "500Mi", 400 * MI),
            pod("greedy", 0, "100Mi", 300 * MI),
            pod("greedier", 0, "100Mi", 301 * MI),
            pod("important", 10, "0", 900 * MI),
            pod("unimportant", -1, "500Mi", 499 * MI),
        ]
    };
    assert_eq!(
        order(Signal::MemoryAvailable, pods()),
        ["greedier", "greedy", "important", "unimportant", "modest"]
    );
    // Nobody asks for processes.
    assert_eq!(
        order(Signal::PidAvailable, pods()),
        ["unimportant", "modest", "greedier", "greedy", "important"]
    );
}

#[test]
fn an_evicted_pod_is_told_why_in_upstreams_words() {
    let seen = observed(|sample| sample.memory_available = 50 * MI);
    let limit = Threshold::hard(Signal::MemoryAvailable, Amount::Quantity(100 * MI));
    let (text, marks) = message(&limit, &seen, &pod("p", 0, "100Mi", 300 * MI));
    assert_eq!(
        text,
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using 300Mi, \
         request is 100Mi, has larger consumption of memory. "
    );
    let wanted = [
        ("offending_containers", "c"),
        ("offending_containers_usage", "300Mi"),
        ("starved_resource", "memory"),
    ];
    assert!(
        marks.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(wanted),
        "{marks:?}"
    );
    assert_eq!(
        message(&limit, &seen, &pod("p", 0, "500Mi", 300 * MI)).0,
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
    );
}

/// A limit is told as it was written, a share of something in binary units, and of what is free only files are not.
#[test]
fn amounts_are_told_in_upstreams_units() {
    let told = |limit: &str, change: &dyn Fn(&mut Sample)| {
        let config = EvictionConfig {
            thresholds: Vec::new(),
            ..EvictionConfig::default()
        };
        let limit = config.hard(limit).unwrap().thresholds.remove(0);
        let pod = pod("p", 0, "0", 0);
        message(&limit, &observed(change), &pod).0
    };
    let many = |s: &mut Sample| (s.max_tasks, s.tasks) = (40_960, 38_912);
    let files = |s: &mut Sample| (s.nodefs.inodes, s.nodefs.inodes_free) = (40_960, 2000);
    type Change<'a> = &'a dyn Fn(&mut Sample);
    let table: [(&str, Change<'_>, &str); 6] = [
        (
            "pid.available<95%",
            &|_| {},
            "pids. Threshold quantity: 949, available: 900",
        ),
        (
            "pid.available<10%",
            &many,
            "pids. Threshold quantity: 4Ki, available: 2Ki",
        ),
        (
            "pid.available<3000",
            &many,
            "pids. Threshold quantity: 3k, available: 2Ki",
        ),
        (
            "nodefs.inodesFree<10%",
            &files,
            "inodes. Threshold quantity: 4Ki, available: 2k",
        ),
        (
            "nodefs.inodesFree<2500",
            &files,
            "inodes. Threshold quantity: 2500, available: 2k",
        ),
        (
            "memory.available<300M",
            &|_| {},
            "memory. Threshold quantity: 300M, available: 200Mi",
        ),
    ];
    for (limit, change, wanted) in table {
        let wanted = format!("The node was low on resource: {wanted}. ");
        assert_eq!(told(limit, change), wanted, "{limit}");
    }
}

/// What must stay free of the machine's memory must stay free of the pods' share too, and is no soft limit there.
#[test]
fn memory_of_all_pods_counts_like_the_machines() {
    let usual = EvictionConfig::default().soft("memory.available<1Gi", "memory.available=1m");
    let usual = usual.unwrap().minimum_reclaim("memory.available=10Mi").unwrap();
    let limits = usual.clone().for_allocatable();
    let more = &limits.thresholds[usual.thresholds.len()..];
    let wanted = Threshold {
        min_reclaim: Some(Amount::Quantity(10 * MI)),
        ..Threshold::hard(Signal::AllocatableMemoryAvailable, Amount::Quantity(100 * MI))
    };
    assert_eq!(more, [wanted]);
    let used = |used: u64| move |s: &mut Sample| s.pods_memory = Some((used * MI, 512 * MI));
    assert_eq!(acted_upon(&limits, used(412)), [""; 0]);
    assert_eq!(acted_upon(&limits, used(413)), ["allocatableMemory.available"]);
    let both = |s: &mut Sample| (s.memory_available, s.pods_memory) = (0, Some((600 * MI, 512 * MI)));
    assert_eq!(
        acted_upon(&limits, both),
        ["memory.available", "allocatableMemory.available"]
    );
    let step = EvictionState::default().step(&limits, &observed(used(413)), Duration::ZERO);
    assert!(step.pressure.memory && !step.pressure.disk);
    let seen = observed(used(500));
    let text = message(&more[0], &seen, &pod("p", 0, "100Mi", 300 * MI)).0;
    let wanted = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 12Mi. ";
    assert!(text.starts_with(wanted), "{text}");
}

#[test]
fn who_holds_more_of_the_disk_than_allowed_is_told_which_limit() {
    let object: Value = json!({"metadata": {"name": "p"}, "spec": {
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "free", "emptyDir": {}}],
        "containers": [{"name": "a", "resources": {"limits": {"ephemeral-storage": "10Mi"}}},
                       {"name": "b", "resources": {"limits": {"ephemeral-storage": "20Mi"}}}]}});
    let pod: Arc<Pod> = Arc::new(serde_json::from_value(object).unwrap());
    let verdict = |v: u64, free: u64, a: u64, b: u64| {
        let container = |name: &str, disk| ContainerUse {
            name: name.into(),
            memory: 0,
            disk,
        };
        local::over_limit(&PodUse {
            pod: pod.clone(),
            containers: vec![container("a", a), container("b", b)],
            volumes: BTreeMap::from([("v".to_owned(), v), ("free".to_owned(), free)]),
            inodes: 0,
            processes: 0,
        })
        .map(|excess| (excess.signal, excess.message))
    };
    let ended = |signal, message: &str| Some((signal, message.to_owned()));
    assert!(local::is_limited(&pod));
    assert_eq!(verdict(MI, 20 * MI, 4 * MI, 5 * MI), None);
    let volume = "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ";
    assert_eq!(
        verdict(MI + 1, 20 * MI, 10 * MI, 20 * MI),
        ended("emptydirfs.limit", volume)
    );
    let whole = "Pod ephemeral local storage usage exceeds the total limit of containers 30Mi. ";
    assert_eq!(
        verdict(0, 20 * MI, 11 * MI, 0),
        ended("ephemeralpodfs.limit", whole)
    );
    let one = "Container a exceeded its local ephemeral storage limit \"10Mi\". ";
    assert_eq!(
        verdict(0, 0, 11 * MI, 0),
        ended("ephemeralcontainerfs.limit", one)
    );
}

#[test]
fn directories_are_measured_and_absent_ones_are_empty() {
    let directory = tempfile::tempdir().unwrap();
    let (empty, one) = disk::usage(directory.path()).unwrap();
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    std::fs::write(directory.path().join("sub/file"), vec![1; 1 << 20]).unwrap();
    let (bytes, inodes) = disk::usage(directory.path()).unwrap();
    assert!(bytes - empty >= 1 << 20, "{bytes} - {empty}");
    assert_eq!(inodes - one, 2);
    assert_eq!(disk::usage(&directory.path().join("none")).unwrap(), (0, 0));
}
