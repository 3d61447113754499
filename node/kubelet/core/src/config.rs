//! Configuration of the pod side of the kubelet.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knode_client::Clock;
use knode_cri as cri;
use knode_kubelet_metrics::Metrics;
use knode_volumes::Drivers;

use crate::api::PodApi;
use crate::credentials::NodeCredentials;
use crate::devices::PodDevices;
use crate::logs::LogRotation;
use crate::pulls::PullVerification;
use crate::rules::ResourceRules;
use crate::static_pods::FetchedPods;

/// What is known of the node, which may change while the kubelet runs.
pub trait NodeView: Send + Sync + 'static {
    /// What pods may use of it.
    fn allocatable(&self) -> BTreeMap<String, Quantity>;
    /// Labels of the node's object.
    fn labels(&self) -> BTreeMap<String, String>;
    /// Uid of the node's object, once that is known: mirror pods are owned by it.
    fn uid(&self) -> Option<String> {
        None
    }
    /// Whether the machine shuts down: the node takes no more pods.
    fn is_shutting_down(&self) -> bool {
        false
    }
    /// Credentials for registries that serve the images of every pod.
    fn registry_credentials(&self) -> Option<Arc<NodeCredentials>> {
        None
    }
    /// CSI drivers; none if the node takes none.
    fn drivers(&self) -> Option<Arc<dyn Drivers>> {
        None
    }
    /// Conditions of the node that are true and say that something is scarce, such as `MemoryPressure`.
    fn pressures(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Makes the cgroups that hold a pod's containers; the runtime makes those of the containers in them.
pub trait PodCgroups: Send + Sync + 'static {
    /// Makes `parent` (such as `/kubepods/burstable/pod<uid>`) with these limits, or changes its limits.
    ///
    /// # Errors
    /// The kernel's answer.
    fn apply(&self, parent: &str, limits: &cri::LinuxContainerResources) -> std::io::Result<()>;
    /// Removes `parent` and what is left below it; fine if it is gone already.
    ///
    /// # Errors
    /// The kernel's answer.
    fn remove(&self, parent: &str) -> std::io::Result<()>;
    /// The name by which the kernel and the runtime know `parent`: another one where systemd makes the groups.
    fn path(&self, parent: &str) -> String {
        parent.to_owned()
    }
}

/// No cgroups: for runtimes that make the pod's cgroup themselves, and for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCgroups;

impl PodCgroups for NoCgroups {
    fn apply(&self, _: &str, _: &cri::LinuxContainerResources) -> std::io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &str) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that the kubelet is given.
#[derive(Clone)]
pub struct KubeletConfig {
    /// The node's name.
    pub node_name: String,
    /// Addresses of the node as strings, at most one of each family; the first is `hostIP`.
    pub node_ips: Vec<String>,
    /// The API with the node's identity: [`crate::ClientApi`], or a test's own.
    pub api: Arc<dyn PodApi>,
    /// The container runtime.
    pub runtime: Arc<dyn cri::RuntimeService>,
    /// The runtime's images.
    pub images: Arc<dyn cri::ImageService>,
    /// The kubelet's root (upstream: `/var/lib/kubelet`).
    pub root_dir: PathBuf,
    /// Logs of all pods (upstream: `/var/log/pods`).
    pub pod_logs_dir: PathBuf,
    /// Links to the logs of all containers (upstream: `/var/log/containers`).
    pub container_logs_dir: PathBuf,
    /// Addresses of the cluster's name servers; none if it has none.
    pub cluster_dns: Vec<String>,
    /// The cluster's domain, such as `cluster.local`.
    pub cluster_domain: String,
    /// The node's resolv.conf.
    pub resolv_conf: PathBuf,
    /// Cgroup below which `kubepods` lies, `/` for the root.
    pub cgroup_root: String,
    /// Makes the pods' cgroups.
    pub cgroups: Arc<dyn PodCgroups>,
    /// How containers and pods are limited and where they run.
    pub rules: ResourceRules,
    /// Who has the node's devices.
    pub devices: Arc<dyn PodDevices>,
    /// What is known of the node.
    pub node: Arc<dyn NodeView>,
    /// How many images are pulled at once, from 1 on.
    pub image_pulls: usize,
    /// Which images that are here pods may use without showing that they could pull them.
    pub pull_verification: PullVerification,
    /// When logs are rotated.
    pub log_rotation: LogRotation,
    /// A directory (or one file) of static pods' manifests; none if there are none.
    pub static_pods: Option<PathBuf>,
    /// Static pods that are fetched; none if there are none.
    pub fetched_pods: Option<FetchedPods>,
    /// Where is counted what happens.
    pub metrics: Arc<Metrics>,
    /// What the kernel enforces.
    pub modules: SecurityModules,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Security modules of the kernel that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecurityModules {
    /// AppArmor.
    pub apparmor: bool,
    /// SELinux: volumes are relabelled for their pods where the runtime does so.
    pub selinux: bool,
}
