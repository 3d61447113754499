//! Which pod goes first. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use knode_api::quantity::Quantity;

use super::signal::Signal;

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUse {
    /// Its name.
    pub name: String,
    /// Bytes of memory that it could not do without.
    pub memory: u64,
    /// Bytes of its writable layer and its logs.
    pub disk: u64,
}

/// What a pod uses.
#[derive(Clone, Debug)]
pub struct PodUse {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its containers.
    pub containers: Vec<ContainerUse>,
    /// Bytes of its emptyDir volumes on disk, by name.
    pub volumes: BTreeMap<String, u64>,
    /// Files and directories of its volumes and logs.
    pub inodes: u64,
    /// Processes.
    pub processes: u64,
}

impl PodUse {
    /// Bytes of memory.
    pub fn memory(&self) -> u64 {
        self.containers.iter().map(|one| one.memory).sum()
    }

    /// Bytes of disk.
    pub fn disk(&self) -> u64 {
        self.volumes.values().sum::<u64>() + self.containers.iter().map(|one| one.disk).sum::<u64>()
    }

    /// How much more it uses than it asked for.
    fn excess(&self, signal: Signal) -> i128 {
        let over = |used: u64, name| i128::from(used) - i128::from(pod_request(&self.pod, name));
        match signal {
            Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => over(self.memory(), "memory"),
            Signal::NodefsAvailable | Signal::ImagefsAvailable => over(self.disk(), "ephemeral-storage"),
            Signal::NodefsInodesFree | Signal::ImagefsInodesFree => i128::from(self.inodes),
            Signal::PidAvailable => i128::from(self.processes),
        }
    }
}

/// The pods in the order in which they are ended: those that use more than they asked for, then by priority, then by how
/// much more they use.
pub fn rank(signal: Signal, mut pods: Vec<PodUse>) -> Vec<PodUse> {
    pods.sort_by_key(|one| {
        let excess = one.excess(signal);
        // Nobody asks for processes: priority alone counts before their number.
        let modest = signal != Signal::PidAvailable && excess <= 0;
        (modest, priority(&one.pod), Reverse(excess))
    });
    pods
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// A container's request, as a quantity.
pub(super) fn request(container: &Container, name: &str) -> Option<Quantity> {
    let requests = container.resources.as_ref()?.requests.as_ref()?;
    Quantity::parse(&requests.get(name)?.0).ok()
}

/// Requests of all containers that run together.
fn pod_request(pod: &Pod, name: &str) -> u64 {
    let spec = pod.spec.as_ref();
    let inits = spec
        .into_iter()
        .flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars = inits.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let mains = spec.into_iter().flat_map(|spec| &spec.containers);
    let all = sidecars
        .chain(mains)
        .filter_map(|container| request(container, name));
    all.map(|quantity| u64::try_from(quantity.value()).unwrap_or(0))
        .sum()
}
