//! Processors of pods, with a fake runtime on a machine of two NUMA nodes.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use knode_kubelet::ResourceRules;
use knode_kubelet_resources::cpu::{CpuOptions, CpuPolicy};
use knode_kubelet_resources::machine::{Cpu, Machine, Node};
use knode_kubelet_resources::topology::Policy;
use knode_kubelet_resources::{ManagerSettings, Managers};
use serde_json::json;

use common::{Bench, phase};

/// Two nodes of two processors each; the first one is reserved.
fn rules(directory: &Path) -> ResourceRules {
    let cpu = |id: u32| Cpu {
        id,
        core: id,
        socket: id / 2,
        numa: id / 2,
        cache: id,
    };
    let machine = Machine {
        cpus: (0..4).map(cpu).collect(),
        nodes: [(0, Node::default()), (1, Node::default())].into(),
    };
    let settings = ManagerSettings {
        cpu: CpuPolicy::Static(CpuOptions::default()),
        reserved_cpus: "0".parse().unwrap(),
        topology: Policy::SingleNumaNode,
        directory: directory.to_owned(),
        ..ManagerSettings::default()
    };
    ResourceRules {
        managers: Some(Arc::new(Managers::open(settings, &machine).unwrap())),
        ..ResourceRules::default()
    }
}

fn pod(name: &str, cpu: &str) -> Pod {
    let resources = json!({"limits": {"cpu": cpu, "memory": "1Mi"}});
    let mut pod = common::pod(name, json!({"resources": resources}), json!({}));
    pod.status.as_mut().unwrap().qos_class = Some("Guaranteed".to_owned());
    pod
}

fn cpus(bench: &Bench) -> Vec<String> {
    let of = |request: &knode_cri::CreateContainerRequest| {
        let linux = request.config.clone()?.linux?;
        Some(linux.resources?.cpuset_cpus)
    };
    bench.runtime.creates().iter().filter_map(of).collect()
}

async fn bench(name: &str) -> Bench {
    let mut bench = Bench::start(name).await;
    bench.rules = rules(&bench.root);
    bench.start_kubelet().await;
    bench
}

#[tokio::test(start_paused = true)]
async fn the_shared_processors_follow_what_pods_have_for_themselves() {
    let mut bench = bench("pins").await;
    bench.api.put(common::pod("shared", json!({}), json!({})));
    bench.until_ready("shared").await;
    let before = bench.runtime.updates().len();
    bench.api.put(pod("own", "1"));
    bench.until_ready("own").await;
    assert_eq!(cpus(&bench), ["0-3", "1"]);
    bench.pass(1).await;
    let told = |bench: &Bench| {
        let updates = bench.runtime.updates();
        let linux = updates.last().unwrap().linux.clone().unwrap();
        (updates.len(), linux.cpuset_cpus, linux.memory_limit_in_bytes)
    };
    assert_eq!(told(&bench), (before + 1, "0,2-3".to_owned(), 0));

    bench.rules = rules(&bench.root);
    bench.start_kubelet().await;
    bench.pass(1).await;
    let managers = bench.rules.managers.clone().unwrap();
    let own = bench.api.pod("own").unwrap().metadata.uid.unwrap();
    assert_eq!(
        managers.pin(&own, "c").cpus,
        "1",
        "a restart keeps what was given"
    );
    bench.api.delete_pod("own", Some(1));
    bench.until_gone("own").await;
    bench.pass(1).await;
    assert_eq!(told(&bench).1, "0-3");
    bench.api.delete_pod("shared", Some(1));
    bench.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_no_numa_node_has_room_for_is_rejected() {
    let bench = bench("topology").await;
    bench.api.put(common::pod("shared", json!({}), json!({})));
    bench.until_ready("shared").await;
    // One processor of each node is taken: the node has as many as are asked for, but not together.
    let managers = bench.rules.managers.clone().unwrap();
    for name in ["first", "second"] {
        managers.admit(&pod(name, "1"), true).unwrap();
    }
    bench.api.put(pod("wide", "2"));
    let pod = bench
        .until("wide", "to be rejected", |pod| phase(pod) == "Failed")
        .await;
    let status = pod.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("TopologyAffinityError"));
    let text = "Pod was rejected: Resources cannot be allocated with Topology locality";
    assert_eq!(status.message.as_deref(), Some(text));
    let event = "TopologyAffinityError";
    assert!(
        bench.api.events("wide").iter().any(|one| one.contains(event)),
        "{:?}",
        bench.api.events("wide")
    );
    for name in ["wide", "shared"] {
        bench.api.delete_pod(name, Some(1));
        bench.until_gone(name).await;
    }
    bench.until_clean().await;
}

/// Control groups that are written down.
#[derive(Default)]
struct Groups(std::sync::Mutex<std::collections::BTreeMap<String, i64>>);

impl knode_kubelet::PodCgroups for Groups {
    fn apply(&self, parent: &str, limits: &knode_cri::LinuxContainerResources) -> std::io::Result<()> {
        self.0
            .lock()
            .unwrap()
            .insert(parent.to_owned(), limits.cpu_shares);
        Ok(())
    }

    fn remove(&self, parent: &str) -> std::io::Result<()> {
        self.0.lock().unwrap().remove(parent);
        Ok(())
    }
}

/// The class of burstable pods has the shares that they request together, that of the others the least.
#[tokio::test(start_paused = true)]
async fn classes_of_pods_have_their_shares() {
    let mut bench = Bench::start("classes").await;
    let groups = Arc::new(Groups::default());
    bench.cgroups = groups.clone();
    bench.start_kubelet().await;
    let shares = || {
        let all = groups.0.lock().unwrap().clone();
        ["/kubepods/burstable", "/kubepods/besteffort"].map(|name| all.get(name).copied())
    };
    bench.pass(1).await;
    assert_eq!(shares(), [Some(2), Some(2)]);
    for name in ["one", "two"] {
        let resources = json!({"requests": {"cpu": "500m"}});
        let mut pod = common::pod(name, json!({"resources": resources}), json!({}));
        pod.status.as_mut().unwrap().qos_class = Some("Burstable".to_owned());
        bench.api.put(pod);
        bench.until_ready(name).await;
    }
    bench.pass(1).await;
    assert_eq!(shares(), [Some(1024), Some(2)]);
    bench.start_kubelet().await;
    assert_eq!(shares()[0], Some(1024), "a restart keeps what was given");
    bench.api.delete_pod("one", Some(1));
    bench.until_gone("one").await;
    bench.pass(1).await;
    assert_eq!(shares(), [Some(512), Some(2)]);
    bench.api.delete_pod("two", Some(1));
    bench.until_gone("two").await;
    bench.until_clean().await;
}
