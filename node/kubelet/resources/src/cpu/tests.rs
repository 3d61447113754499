use std::collections::BTreeMap;

use super::*;
use crate::ask::{Ask, ContainerAsk, Kind};
use crate::cpuset::CpuSet;
use crate::machine::{Cpu, Machine, Node};
use crate::topology::{NumaMask, TopologyHint};

/// Packages of one node each, cores of two threads: thread `n` and `n + cores` share a core.
fn machine(sockets: u32, cores: u32) -> Machine {
    let all = sockets * cores;
    let cpu = |id: u32| {
        let core = id % all;
        let socket = core / cores;
        Cpu {
            id,
            core,
            socket,
            numa: socket,
            cache: core / 2 * 2,
        }
    };
    Machine {
        cpus: (0..2 * all).map(cpu).collect(),
        nodes: (0..sockets).map(|id| (id, Node::default())).collect(),
    }
}

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

fn policy(machine: Machine, options: CpuOptions, reserved: &str) -> StaticCpus {
    StaticCpus::new(machine, options, set(reserved), 0, CpuState::default()).unwrap()
}

fn ask(name: &str, kind: Kind, cpus: usize) -> ContainerAsk {
    ContainerAsk {
        name: name.to_owned(),
        kind,
        cpus,
        memory: BTreeMap::new(),
    }
}

fn give(policy: &mut StaticCpus, uid: &str, cpus: usize) -> Result<String, String> {
    let container = ask("c", Kind::Beside, cpus);
    let given = policy.allocate(uid, &container, TopologyHint::ANY, &mut CpuSet::EMPTY.clone());
    given.map_err(|error| error.message)?;
    Ok(policy.state().of(uid, "c").unwrap().to_string())
}

#[test]
fn whole_packages_then_cores_then_threads() {
    let mut cpus = policy(machine(2, 4), CpuOptions::default(), "0");
    // Of 16 processors: package 1 is whole.
    assert_eq!(give(&mut cpus, "whole", 8).unwrap(), "4-7,12-15");
    assert_eq!(give(&mut cpus, "core", 2).unwrap(), "1,9");
    // The thread beside the reserved one: its core is broken already.
    assert_eq!(give(&mut cpus, "thread", 1).unwrap(), "8");
    assert_eq!(cpus.state().shared.to_string(), "0,2-3,10-11");
    assert!(
        give(&mut cpus, "more", 5)
            .unwrap_err()
            .contains("not enough cpus available to satisfy request: requested=5, available=4")
    );
    assert!(cpus.release("core"));
    assert!(!cpus.release("core"));
    assert_eq!(give(&mut cpus, "again", 5).unwrap(), "1-3,9-10");
}

#[test]
fn reserved_by_number_are_the_first_cores() {
    let cpus = StaticCpus::new(
        machine(1, 4),
        CpuOptions::default(),
        CpuSet::EMPTY,
        2,
        CpuState::default(),
    )
    .unwrap();
    assert_eq!(cpus.allocatable().to_string(), "1-3,5-7");
    let nothing = StaticCpus::new(
        machine(1, 4),
        CpuOptions::default(),
        CpuSet::EMPTY,
        0,
        CpuState::default(),
    );
    assert_eq!(nothing.unwrap_err(), CpuError::NothingReserved);
}

#[test]
fn whole_cores_only() {
    let options = CpuOptions {
        full_cores: true,
        ..CpuOptions::default()
    };
    let mut cpus = policy(machine(1, 4), options, "0");
    let odd = give(&mut cpus, "odd", 3).unwrap_err();
    assert_eq!(
        odd,
        "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2"
    );
    let many = give(&mut cpus, "many", 8).unwrap_err();
    assert!(
        many.ends_with("available physical CPUs = 6, requested CPUs = 8, CPUs per core = 2"),
        "{many}"
    );
    assert_eq!(give(&mut cpus, "even", 4).unwrap(), "1-2,5-6");
}

#[test]
fn a_strict_reservation_is_nobodys() {
    let options = CpuOptions {
        strict_reservation: true,
        ..CpuOptions::default()
    };
    let cpus = policy(machine(1, 2), options, "0,2");
    assert_eq!(cpus.state().shared.to_string(), "1,3");
    let again = StaticCpus::new(
        machine(1, 2),
        CpuOptions::default(),
        set("0,2"),
        0,
        cpus.state().clone(),
    );
    assert!(
        again
            .unwrap_err()
            .to_string()
            .starts_with("not all reserved cpus")
    );
}

#[test]
fn spread_over_nodes_and_within_a_cache() {
    let options = CpuOptions {
        distribute: true,
        ..CpuOptions::default()
    };
    let mut cpus = policy(machine(2, 4), options, "0");
    let spread = give(&mut cpus, "spread", 10).unwrap().parse::<CpuSet>().unwrap();
    let in_first = spread.iter().filter(|id| id % 8 < 4).count();
    assert_eq!((spread.len(), in_first), (10, 5), "{spread}");
    let options = CpuOptions {
        prefer_cache: true,
        ..CpuOptions::default()
    };
    let mut cpus = policy(machine(1, 8), options, "0");
    assert_eq!(give(&mut cpus, "cache", 4).unwrap(), "2-3,10-11");
    assert_eq!(give(&mut cpus, "rest", 3).unwrap(), "1,8-9");
}

#[test]
fn init_containers_leave_theirs_to_the_others() {
    let mut cpus = policy(machine(1, 4), CpuOptions::default(), "0,4");
    let mut left = CpuSet::EMPTY;
    for (container, expected) in [
        (ask("init", Kind::Init, 4), "1-2,5-6"),
        (ask("sidecar", Kind::Sidecar, 2), "1,5"),
        (ask("main", Kind::Beside, 4), "2-3,6-7"),
    ] {
        cpus.allocate("u", &container, TopologyHint::ANY, &mut left)
            .unwrap();
        assert_eq!(
            cpus.state().of("u", &container.name).unwrap().to_string(),
            expected
        );
    }
    assert_eq!(cpus.state().shared.to_string(), "0,4");
    cpus.release("u");
    assert_eq!(cpus.state().shared, cpus.state().shared.union(&set("0-7")));
}

#[test]
fn hints_name_the_nodes_with_enough() {
    let mut cpus = policy(machine(2, 2), CpuOptions::default(), "0");
    let hints = |cpus: &StaticCpus, count| {
        let hints = cpus
            .container_hints("u", &ask("c", Kind::Beside, count), &CpuSet::EMPTY)
            .unwrap();
        let text = |hint: &TopologyHint| {
            format!(
                "{}{}",
                hint.affinity.unwrap(),
                if hint.preferred { "!" } else { "" }
            )
        };
        hints.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(hints(&cpus, 2), "1! 10! 11");
    assert_eq!(hints(&cpus, 4), "10! 11");
    assert_eq!(hints(&cpus, 5), "11!");
    assert_eq!(hints(&cpus, 8), "");
    let near = TopologyHint::new(NumaMask::of([1]), true);
    cpus.allocate("u", &ask("c", Kind::Beside, 2), near, &mut CpuSet::EMPTY.clone())
        .unwrap();
    assert_eq!(hints(&cpus, 2), "10! 11", "what it has is what it prefers");
    assert_eq!(hints(&cpus, 1), "", "and nothing else");
    let pod = Ask {
        uid: "v".into(),
        containers: vec![ask("a", Kind::Beside, 1), ask("b", Kind::Beside, 1)],
    };
    assert_eq!(cpus.pod_hints(&pod).unwrap().len(), 3);
    assert!(
        cpus.pod_hints(&Ask {
            uid: "w".into(),
            containers: vec![ask("a", Kind::Beside, 0)]
        })
        .is_none()
    );
}

#[test]
fn the_file_is_upstreams() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cpu_manager_state");
    let none = CpuState::default();
    assert_eq!(
        none.to_text("none"),
        r#"{"policyName":"none","defaultCpuSet":"","checksum":1353318690}"#
            .parse::<serde_json::Value>()
            .unwrap()
            .to_string()
    );
    let mut cpus = policy(machine(1, 4), CpuOptions::default(), "0");
    give(&mut cpus, "u", 2).unwrap();
    cpus.state().store(&path, "static").unwrap();
    let back = CpuState::load(&path, "static").unwrap();
    assert_eq!(&back, cpus.state());
    let mut again = StaticCpus::new(machine(1, 4), CpuOptions::default(), set("0"), 0, back.clone()).unwrap();
    assert_eq!(
        give(&mut again, "u", 2).unwrap(),
        "1,5",
        "a restart keeps what was given"
    );
    assert!(
        CpuState::load(&path, "none")
            .unwrap_err()
            .to_string()
            .contains("configured policy \"none\" differs")
    );
    let other = StaticCpus::new(machine(1, 2), CpuOptions::default(), set("0"), 0, back);
    assert!(
        other
            .unwrap_err()
            .to_string()
            .contains("current set of available CPUs")
    );
    let text = std::fs::read_to_string(&path).unwrap().replace("1,5", "1,6");
    std::fs::write(&path, text).unwrap();
    assert!(
        CpuState::load(&path, "static")
            .unwrap_err()
            .to_string()
            .contains("corrupted")
    );
}

#[test]
fn options_are_read_or_named() {
    let map = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    assert!(
        CpuOptions::parse(&map("full-pcpus-only", "true"))
            .unwrap()
            .full_cores
    );
    assert!(CpuOptions::parse(&map("full-pcpus-only", "yes")).is_err());
    assert!(
        CpuOptions::parse(&map("none-such", "true"))
            .unwrap_err()
            .to_string()
            .contains("unknown")
    );
    assert!(
        CpuOptions::parse(&map("distribute-cpus-across-cores", "true"))
            .unwrap_err()
            .to_string()
            .contains("not supported")
    );
}

/// A generator of numbers that is the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn check(cpus: &StaticCpus, all: &CpuSet, reserved: &CpuSet) {
    let state = cpus.state();
    let mut seen = state.shared.clone();
    let mut count = state.shared.len();
    for (uid, containers) in &state.entries {
        for own in containers.values() {
            assert!(
                own.intersection(reserved).is_empty(),
                "{uid} has a reserved one: {state:?}"
            );
            seen = seen.union(own);
            count += own.len();
        }
    }
    assert_eq!(&seen, all, "{state:?}");
    assert_eq!(count, all.len(), "one belongs to two: {state:?}");
}

/// Any order of coming and going: never two on one, what is released is free again, a state read back goes on alike.
#[test]
fn any_order_of_events() {
    for seed in 0..60 {
        let mut numbers = Numbers(seed);
        let options = CpuOptions {
            full_cores: seed % 5 == 1,
            distribute: seed % 3 == 1,
            align_by_socket: seed % 7 == 1,
            prefer_cache: seed % 3 == 2,
            ..CpuOptions::default()
        };
        let machine = machine(1 + (seed % 3) as u32, 2 + (seed % 4) as u32);
        let (all, reserved) = (machine.all(), set("0"));
        let mut cpus =
            StaticCpus::new(machine.clone(), options, reserved.clone(), 0, CpuState::default()).unwrap();
        for _ in 0..120 {
            let uid = format!("u{}", numbers.below(6));
            match numbers.below(4) {
                0 => drop(cpus.release(&uid)),
                1 => {
                    let text = cpus.state().to_text("static");
                    let dir = tempfile::tempdir().unwrap();
                    let path = dir.path().join("s");
                    std::fs::write(&path, text).unwrap();
                    let back = CpuState::load(&path, "static").unwrap();
                    assert_eq!(&back, cpus.state());
                    cpus = StaticCpus::new(machine.clone(), options, reserved.clone(), 0, back).unwrap();
                }
                _ => {
                    let wanted = 1 + numbers.below(4) as usize;
                    let free = cpus.state().shared.without(&reserved).len();
                    let before = cpus.state().of(&uid, "c").cloned();
                    let given = give(&mut cpus, &uid, wanted);
                    if !options.full_cores && before.is_none() {
                        assert_eq!(given.is_ok(), wanted <= free, "{wanted} of {free}: {given:?}");
                    }
                    if let Some(before) = before {
                        assert_eq!(cpus.state().of(&uid, "c"), Some(&before), "it keeps what it has");
                    }
                }
            }
            check(&cpus, &all, &reserved);
        }
        for uid in 0..6 {
            cpus.release(&format!("u{uid}"));
        }
        assert_eq!(cpus.state().shared, all);
    }
}
