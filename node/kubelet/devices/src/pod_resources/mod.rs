//! What containers were given, told to others of the machine (upstream: `pkg/kubelet/apis/podresources`).

mod answer;
mod limit;
mod server;
pub mod v1;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

pub use server::{PodResources, PodResourcesError};

/// A block of memory that is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryBlock {
    /// `memory`, `hugepages-2Mi`, …
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// The NUMA nodes that it is on.
    pub nodes: Vec<i64>,
}

/// A device of a claim of dynamic resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimDevice {
    /// Names of its CDI devices.
    pub cdi_devices: Vec<String>,
    /// Its driver.
    pub driver: String,
    /// The pool that it is of.
    pub pool: String,
    /// Its name in there.
    pub device: String,
    /// Tells shares of one device apart.
    pub share: Option<String>,
}

/// A claim that a container may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What of it the container uses.
    pub devices: Vec<ClaimDevice>,
}

/// What pods there are, and what they have beside devices of plugins.
pub trait Given: Send + Sync + 'static {
    /// The pods of this node that have not ended.
    fn pods(&self) -> Vec<Arc<Pod>>;
    /// Processors that only this container has.
    fn cpus(&self, uid: &str, container: &str) -> Vec<i64>;
    /// Memory that is set aside for this container.
    fn memory(&self, uid: &str, container: &str) -> Vec<MemoryBlock>;
    /// Processors that containers may have.
    fn allocatable_cpus(&self) -> Vec<i64>;
    /// Memory that may be set aside.
    fn allocatable_memory(&self) -> Vec<MemoryBlock>;
    /// Claims of dynamic resources that this container uses.
    fn claims(&self, uid: &str, container: &str) -> Vec<Claim>;
}
