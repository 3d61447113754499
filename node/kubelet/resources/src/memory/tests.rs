use std::collections::BTreeMap;

use super::*;
use crate::ask::{Ask, ContainerAsk, Kind};
use crate::machine::{Machine, Node};
use crate::topology::{NumaMask, TopologyHint};

const MI: u64 = 1 << 20;

fn machine(nodes: u32) -> Machine {
    let node = Node {
        memory: 1024 * MI,
        huge_pages: BTreeMap::from([(2 * MI, 64 * MI)]),
        distances: Vec::new(),
    };
    Machine {
        cpus: Vec::new(),
        nodes: (0..nodes).map(|id| (id, node.clone())).collect(),
    }
}

fn reserved() -> Reservation {
    Reservation::from([(0, BTreeMap::from([("memory".to_owned(), 100 * MI)]))])
}

fn memory(nodes: u32) -> StaticMemory {
    StaticMemory::new(&machine(nodes), &reserved(), MemoryState::default()).unwrap()
}

fn pod(uid: &str, containers: &[(&str, Kind, u64)]) -> Ask {
    let container = |(name, kind, size): &(&str, Kind, u64)| ContainerAsk {
        name: (*name).to_owned(),
        kind: *kind,
        cpus: 0,
        memory: BTreeMap::from([("memory".to_owned(), size * MI)]),
    };
    Ask {
        uid: uid.to_owned(),
        containers: containers.iter().map(container).collect(),
    }
}

fn give(memory: &mut StaticMemory, ask: &Ask, hint: TopologyHint) -> Result<String, String> {
    let mut left = Reusable::new();
    for container in &ask.containers {
        memory
            .allocate(ask, container, hint, &mut left)
            .map_err(|error| error.message)?;
    }
    Ok(memory
        .nodes_of(&ask.uid, &ask.containers[0].name)
        .unwrap()
        .to_string())
}

fn one(uid: &str, size: u64) -> Ask {
    pod(uid, &[("c", Kind::Beside, size)])
}

#[test]
fn one_node_if_it_is_enough_else_several_together() {
    let mut memory = memory(3);
    // Node 0 has 1024 - 100 - 64.
    assert_eq!(give(&mut memory, &one("a", 800), TopologyHint::ANY).unwrap(), "1");
    assert_eq!(
        give(&mut memory, &one("b", 900), TopologyHint::ANY).unwrap(),
        "10"
    );
    let wide = give(&mut memory, &one("c", 1100), TopologyHint::ANY).unwrap_err();
    assert!(wide.contains("no NUMA nodes with enough memory"), "{wide}");
    memory.release("b");
    assert_eq!(
        give(&mut memory, &one("c", 1100), TopologyHint::ANY).unwrap(),
        "110"
    );
    let alone = memory.container_hints("d", &one("d", 10).containers[0], &Reusable::new());
    let masks: Vec<_> = alone["memory"]
        .iter()
        .flatten()
        .filter(|hint| hint.preferred)
        .map(|hint| hint.affinity.unwrap().to_string())
        .collect();
    assert_eq!(masks, ["1"], "nodes that are used together are not used alone");
}

#[test]
fn a_hint_that_is_too_narrow_is_extended() {
    let mut memory = memory(2);
    let narrow = TopologyHint::new(NumaMask::of([0]), false);
    assert_eq!(give(&mut memory, &one("a", 1000), narrow).unwrap(), "11");
}

#[test]
fn init_containers_memory_is_used_again_and_all_of_it_comes_back() {
    let mut memory = memory(1);
    let fresh = memory.state().clone();
    let ask = pod(
        "a",
        &[
            ("init", Kind::Init, 500),
            ("main", Kind::Beside, 300),
            ("other", Kind::Beside, 400),
        ],
    );
    give(&mut memory, &ask, TopologyHint::ANY).unwrap();
    let table = memory.state().nodes[&0].memory["memory"];
    assert_eq!(table.reserved, 700 * MI);
    let sum: u64 = ["init", "main", "other"]
        .iter()
        .flat_map(|name| memory.state().of("a", name).unwrap())
        .map(|block| block.size)
        .sum();
    assert_eq!(sum, 700 * MI);
    memory.release("a");
    assert_eq!(memory.state(), &fresh);
}

#[test]
fn the_file_is_upstreams() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory_manager_state");
    let upstreams = r#"{"policyName":"static","machineState":{"0":{"numberOfAssignments":0,"memoryMap":{"memory":{"total":2048,"systemReserved":512,"allocatable":1536,"reserved":512,"free":1024}},"cells":[]}},"entries":{"pod":{"container1":[{"numaAffinity":[0],"type":"memory","size":512}]}},"checksum":4215593881}"#;
    std::fs::write(&path, upstreams).unwrap();
    let state = MemoryState::load(&path, "static").unwrap();
    assert_eq!(state.of("pod", "container1").unwrap()[0].size, 512);
    assert_eq!(
        state.to_text("static").parse::<serde_json::Value>().unwrap(),
        upstreams.parse::<serde_json::Value>().unwrap()
    );
    std::fs::write(&path, upstreams.replace("1536", "1537")).unwrap();
    assert!(MemoryState::load(&path, "static").is_err());
}

#[test]
fn a_restart_keeps_what_was_given_and_notices_another_machine() {
    let mut memory = memory(2);
    give(&mut memory, &one("a", 800), TopologyHint::ANY).unwrap();
    give(&mut memory, &one("b", 700), TopologyHint::ANY).unwrap();
    let again = StaticMemory::new(&machine(2), &reserved(), memory.state().clone()).unwrap();
    assert_eq!(again.state(), memory.state());
    let other = StaticMemory::new(&machine(3), &reserved(), memory.state().clone());
    assert_eq!(other.unwrap_err(), MemoryError::State);
    let nothing = StaticMemory::new(&machine(1), &Reservation::new(), MemoryState::default());
    assert_eq!(nothing.unwrap_err(), MemoryError::NothingReserved);
}

/// Any order of coming and going: nothing is given twice, and in the end all is free.
#[test]
fn any_order_of_events() {
    for seed in 0..40u64 {
        let mut number = seed;
        let mut below = |bound: u64| {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (number >> 33) % bound
        };
        let mut memory = memory(1 + (seed % 3) as u32);
        let fresh = memory.state().clone();
        for _ in 0..80 {
            let uid = format!("u{}", below(5));
            match below(3) {
                0 => drop(memory.release(&uid)),
                _ => {
                    let ask = one(&uid, 100 + below(1200));
                    // It may well be too much.
                    let _ = give(&mut memory, &ask, TopologyHint::ANY);
                }
            }
            for node in memory.state().nodes.values() {
                for table in node.memory.values() {
                    assert_eq!(
                        table.free + table.reserved,
                        table.allocatable,
                        "{:?}",
                        memory.state()
                    );
                }
            }
            let again = StaticMemory::new(
                &machine(1 + (seed % 3) as u32),
                &reserved(),
                memory.state().clone(),
            );
            assert_eq!(again.unwrap().state(), memory.state());
        }
        for uid in 0..5 {
            memory.release(&format!("u{uid}"));
        }
        assert_eq!(memory.state(), &fresh);
    }
}
