//! A kubelet between a fake API and a fake runtime, on virtual time.
#![allow(dead_code, clippy::unwrap_used)]

pub mod api;
pub mod clock;
pub mod runtime;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knode_kubelet::{
    FetchedPods, Kubelet, KubeletConfig, LogRotation, NoCgroups, NodeView, PodCgroups, PullVerification,
    ResourceRules, SecurityModules,
};
use knode_kubelet_metrics::Metrics;
use serde_json::{Value, json};

use api::FakeApi;
use clock::VirtualClock;
use runtime::FakeRuntime;

/// A node with two cores.
struct Node;

impl NodeView for Node {
    fn allocatable(&self) -> BTreeMap<String, Quantity> {
        let all = [("cpu", "2"), ("memory", "24Gi"), ("pods", "110")];
        all.map(|(name, text)| (name.to_owned(), Quantity(text.to_owned())))
            .into()
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("kubernetes.io/hostname".to_owned(), "node1".to_owned())])
    }

    fn uid(&self) -> Option<String> {
        Some("node-uid".to_owned())
    }
}

/// One test's world. The directory and its mounts go with it.
pub struct Bench {
    pub api: Arc<FakeApi>,
    pub runtime: Arc<FakeRuntime>,
    pub clock: Arc<VirtualClock>,
    pub root: PathBuf,
    pub rules: ResourceRules,
    pub cgroups: Arc<dyn PodCgroups>,
    pub image_pulls: usize,
    pub verification: PullVerification,
    pub fetched_pods: Option<FetchedPods>,
    pub modules: SecurityModules,
    pub metrics: Arc<Metrics>,
    kubelet: Option<Kubelet>,
}

impl Bench {
    pub async fn start(name: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "pods of these tests mount file systems and need root"
        );
        let root = std::env::temp_dir().join(format!("knode-kubelet-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let clock = Arc::new(VirtualClock::default());
        let (api, runtime) = (
            Arc::new(FakeApi::new(clock.clone())),
            FakeRuntime::new(clock.clone()),
        );
        let mut bench = Self {
            api,
            runtime,
            clock,
            root,
            rules: ResourceRules::default(),
            cgroups: Arc::new(NoCgroups),
            image_pulls: 4,
            verification: PullVerification::default(),
            fetched_pods: None,
            metrics: Arc::default(),
            modules: SecurityModules::default(),
            kubelet: None,
        };
        bench.start_kubelet().await;
        bench
    }

    /// Starts a kubelet, after the one before has gone.
    pub async fn start_kubelet(&mut self) {
        self.stop_kubelet().await;
        let config = KubeletConfig {
            node_name: "node1".into(),
            node_ips: vec!["10.99.0.1".into()],
            api: self.api.clone(),
            runtime: self.runtime.clone(),
            images: self.runtime.clone(),
            root_dir: self.root.join("kubelet"),
            pod_logs_dir: self.root.join("pods"),
            container_logs_dir: self.root.join("containers"),
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            resolv_conf: self.root.join("resolv.conf"),
            cgroup_root: "/".into(),
            devices: Arc::new(knode_kubelet::NoDevices),
            cgroups: self.cgroups.clone(),
            rules: self.rules.clone(),
            node: Arc::new(Node),
            image_pulls: self.image_pulls,
            pull_verification: self.verification.clone(),
            log_rotation: LogRotation {
                max_size: 4096,
                ..LogRotation::default()
            },
            static_pods: Some(self.root.join("manifests")),
            fetched_pods: self.fetched_pods.clone(),
            metrics: self.metrics.clone(),
            modules: self.modules,
            clock: self.clock.clone(),
        };
        self.kubelet = Some(Kubelet::start(config).await.unwrap());
    }

    /// Ends the kubelet as a crash would: nothing is stopped or written.
    pub async fn stop_kubelet(&mut self) {
        self.kubelet = None;
        tokio::task::yield_now().await;
    }

    pub fn kubelet(&self) -> &Kubelet {
        self.kubelet.as_ref().unwrap()
    }

    /// Waits, in virtual time, until `wanted` holds of the pod as the API has it.
    pub async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        for _ in 0..4000 {
            if let Some(pod) = self.api.pod(name)
                && wanted(&pod)
            {
                return pod;
            }
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
        let status = self
            .api
            .pod(name)
            .map(|pod| serde_json::to_string_pretty(&pod.status).unwrap());
        panic!(
            "pod {name} never came to: {what}; it is {}",
            status.unwrap_or_else(|| "gone".into())
        );
    }

    pub async fn until_ready(&self, name: &str) -> Pod {
        self.until(name, "Ready", is_ready).await
    }

    /// Waits, in virtual time, until the pod is gone from the API.
    pub async fn until_gone(&self, name: &str) {
        for _ in 0..4000 {
            if self.api.pod(name).is_none() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
        let status = serde_json::to_string_pretty(&self.api.pod(name)).unwrap();
        panic!(
            "pod {name} never went; it is {status}, the runtime was asked {:?}",
            self.runtime.calls()
        );
    }

    /// Lets virtual time pass.
    pub async fn pass(&self, seconds: u64) {
        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    }

    /// Waits until nothing of any pod is left in the runtime and on disk.
    pub async fn until_clean(&self) {
        let pods = self.root.join("kubelet/pods");
        for _ in 0..400 {
            let empty = std::fs::read_dir(&pods).unwrap().next().is_none();
            if empty && self.runtime.is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
        panic!(
            "something is left: {:?} in the runtime, {:?} on disk",
            self.runtime.left(),
            std::fs::read_dir(&pods).unwrap().collect::<Vec<_>>()
        );
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.kubelet = None;
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = table
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|one| one.starts_with(self.root.to_str().unwrap()));
        for point in points.collect::<Vec<_>>().into_iter().rev() {
            // Best effort: what stays mounted shows in the next line.
            let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
        }
        if let Err(error) = std::fs::remove_dir_all(&self.root) {
            eprintln!("left behind {}: {error}", self.root.display());
        }
    }
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// The pod's first container's status as JSON.
pub fn first_status(pod: &Pod) -> Value {
    let status = serde_json::to_value(&pod.status).unwrap();
    status["containerStatuses"][0].clone()
}

/// A pod with one container `c` as the API server would have it after binding.
pub fn pod(name: &str, container: Value, spec: Value) -> Pod {
    let mut full = json!({"name": "c", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent",
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"});
    full.as_object_mut()
        .unwrap()
        .extend(container.as_object().cloned().unwrap());
    let mut all = json!({"containers": [full], "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst", "nodeName": "node1", "enableServiceLinks": true});
    all.as_object_mut()
        .unwrap()
        .extend(spec.as_object().cloned().unwrap());
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "rec", "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": "2026-11-22T14:49:25Z"},
        "spec": all,
        "status": {"phase": "Pending", "qosClass": "BestEffort", "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-22T14:49:25Z"}]},
    }))
    .unwrap()
}

/// Nothing listens at a fake container's address: what upstream probed over the network is a command here.
pub fn probe_by_command(pod: &mut Pod) {
    for container in &mut pod.spec.as_mut().unwrap().containers {
        let probes = [
            &mut container.startup_probe,
            &mut container.liveness_probe,
            &mut container.readiness_probe,
        ];
        for probe in probes.into_iter().flatten().filter(|probe| probe.exec.is_none()) {
            let command = Some(vec!["alive".to_owned()]);
            probe.exec = Some(k8s_openapi::api::core::v1::ExecAction { command });
            (probe.http_get, probe.tcp_socket) = (None, None);
        }
    }
}
