use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::cpu::CpuOptions;
use crate::machine::{Cpu, Node};
use crate::topology::NumaMask;

/// Two nodes of four processors each, without threads.
fn machine() -> Machine {
    let cpu = |id: u32| Cpu {
        id,
        core: id,
        socket: id / 4,
        numa: id / 4,
        cache: id,
    };
    let node = Node {
        memory: 1 << 30,
        ..Node::default()
    };
    Machine {
        cpus: (0..8).map(cpu).collect(),
        nodes: [(0, node.clone()), (1, node)].into(),
    }
}

fn settings(directory: &std::path::Path, topology: Policy, scope: Scope) -> ManagerSettings {
    ManagerSettings {
        cpu: CpuPolicy::Static(CpuOptions::default()),
        reserved_cpus: "0".parse().unwrap(),
        topology,
        scope,
        directory: directory.to_owned(),
        ..ManagerSettings::default()
    }
}

fn pod(uid: &str, cpus: &[&str]) -> Pod {
    let container = |(index, cpu): (usize, &&str)| {
        let amounts = json!({"cpu": cpu, "memory": "1Mi", "example.com/gpu": "1"});
        json!({"name": format!("c{index}"), "resources": {"limits": amounts}})
    };
    let containers: Vec<_> = cpus.iter().enumerate().map(container).collect();
    serde_json::from_value(json!({"metadata": {"name": uid, "uid": uid}, "spec": {"containers": containers}}))
        .unwrap()
}

/// Devices on node 1 only.
#[derive(Default)]
struct Devices(Mutex<Vec<String>>);

impl HintProvider for Devices {
    fn container_hints(&self, _: &Pod, _: &Container) -> Hints {
        let hints = vec![TopologyHint::new(NumaMask::of([1]), true)];
        Hints::from([("example.com/gpu".to_owned(), Some(hints))])
    }

    fn pod_hints(&self, pod: &Pod) -> Hints {
        self.container_hints(pod, &Container::default())
    }

    fn allocate(&self, pod: &Pod, _: &Container, affinity: TopologyHint) -> Result<(), AllocateError> {
        assert!(affinity.affinity.is_none_or(|mask| mask.has(1)));
        self.0.lock().unwrap().push(pod.metadata.uid.clone().unwrap());
        Ok(())
    }

    fn release(&self, uid: &str) {
        self.0.lock().unwrap().retain(|one| one != uid);
    }
}

#[test]
fn whole_processors_of_guaranteed_pods_are_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let managers = Managers::open(settings(dir.path(), Policy::None, Scope::Container), &machine()).unwrap();
    managers.admit(&pod("a", &["2", "500m"]), true).unwrap();
    managers.admit(&pod("b", &["1"]), false).unwrap();
    assert_eq!(managers.pin("a", "c0").cpus, "1-2");
    assert!(managers.pin("a", "c0").exclusive && managers.has_exclusive("a"));
    for (uid, container) in [("a", "c1"), ("b", "c0"), ("x", "c0")] {
        assert_eq!(managers.pin(uid, container).cpus, "0,3-7", "{uid} {container}");
    }
    let denied = managers.admit(&pod("c", &["4", "4"]), true).unwrap_err();
    assert_eq!(denied.reason, "UnexpectedAdmissionError");
    assert_eq!(
        managers.pin("x", "c0").cpus,
        "0,3-7",
        "nothing is left of a pod that was denied"
    );
    // A restart.
    let again = Managers::open(settings(dir.path(), Policy::None, Scope::Container), &machine()).unwrap();
    again.admit(&pod("a", &["2", "500m"]), true).unwrap();
    assert_eq!(again.pin("a", "c0").cpus, "1-2");
    again.retain(&BTreeSet::from(["b".to_owned()]));
    assert_eq!(again.pin("x", "c0").cpus, "0-7");
    let none = ManagerSettings {
        cpu: CpuPolicy::None,
        ..settings(dir.path(), Policy::None, Scope::Container)
    };
    let refused = Managers::open(none, &machine()).err().unwrap().to_string();
    assert!(
        refused.contains("configured policy \"none\" differs from state checkpoint policy \"static\""),
        "{refused}"
    );
}

#[test]
fn processors_come_from_the_devices_node() {
    for scope in [Scope::Container, Scope::Pod] {
        let dir = tempfile::tempdir().unwrap();
        let managers =
            Managers::open(settings(dir.path(), Policy::SingleNumaNode, scope), &machine()).unwrap();
        let devices = Arc::new(Devices::default());
        managers.add_provider(devices.clone());
        managers.admit(&pod("a", &["2"]), true).unwrap();
        assert_eq!(managers.pin("a", "c0").cpus, "4-5");
        let denied = managers.admit(&pod("b", &["3"]), true).unwrap_err();
        assert_eq!(denied.reason, "TopologyAffinityError");
        assert_eq!(
            denied.message,
            "Resources cannot be allocated with Topology locality"
        );
        assert_eq!(*devices.0.lock().unwrap(), ["a"]);
        managers.release("a");
        assert!(devices.0.lock().unwrap().is_empty());
        managers.admit(&pod("b", &["3"]), true).unwrap();
    }
}

#[test]
fn the_scope_says_what_is_kept_together() {
    let admits = |scope| {
        let dir = tempfile::tempdir().unwrap();
        let managers =
            Managers::open(settings(dir.path(), Policy::SingleNumaNode, scope), &machine()).unwrap();
        managers
            .admit(&pod("a", &["3", "3"]), true)
            .map(|()| (managers.pin("a", "c0").cpus, managers.pin("a", "c1").cpus))
    };
    assert_eq!(
        admits(Scope::Container).unwrap(),
        ("1-3".to_owned(), "4-6".to_owned())
    );
    assert_eq!(admits(Scope::Pod).unwrap_err().reason, "TopologyAffinityError");
}

#[test]
fn memory_comes_from_the_processors_node() {
    let dir = tempfile::tempdir().unwrap();
    let reserved = std::collections::BTreeMap::from([("memory".to_owned(), 1 << 20)]);
    let settings = ManagerSettings {
        memory: MemoryPolicy::Static,
        reserved_memory: [(0, reserved)].into(),
        ..settings(dir.path(), Policy::SingleNumaNode, Scope::Container)
    };
    let managers = Managers::open(settings.clone(), &machine()).unwrap();
    managers.admit(&pod("a", &["4"]), true).unwrap();
    let pin = managers.pin("a", "c0");
    assert_eq!((pin.cpus.as_str(), pin.mems.as_str()), ("4-7", "1"));
    assert_eq!(managers.pin("b", "c0").mems, "");
    let again = Managers::open(settings, &machine()).unwrap();
    assert_eq!(again.pin("a", "c0"), pin);
}
