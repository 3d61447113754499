//! What pods are given beside processors, memory and disk: devices, by whoever has them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};
use knode_cri as cri;

use crate::model::Rejection;

/// What a container is given to use its devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerDevices {
    /// Environment variables, which the pod's own go before.
    pub envs: Vec<(String, String)>,
    /// Mounts, before those of volumes.
    pub mounts: Vec<cri::Mount>,
    /// Device nodes.
    pub devices: Vec<cri::Device>,
    /// Annotations for the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Names of CDI devices.
    pub cdi_devices: Vec<String>,
}

/// Who has the node's devices: those of device plugins, and those of claims of dynamic resources.
#[async_trait]
pub trait PodDevices: Send + Sync + 'static {
    /// Whether the resource is counted here, so that the node's allocatable need not be looked at.
    fn counts(&self, resource: &str) -> bool;

    /// Gives a pod what it asks for, before anything of it is made. What it has is kept.
    ///
    /// # Errors
    /// Why the node does not take the pod.
    async fn admit(&self, pod: &Pod) -> Result<(), Rejection>;

    /// Makes ready what the pod has claimed, before its sandbox is made.
    ///
    /// # Errors
    /// For a person; it is tried again later.
    async fn prepare(&self, pod: &Pod) -> Result<(), String>;

    /// What a container is given; asked before each time that it is made.
    ///
    /// # Errors
    /// For a person; it is tried again later.
    async fn of_container(&self, pod: &Pod, container: &Container) -> Result<ContainerDevices, String>;

    /// Takes back what the pod has, after its containers have ended. Fine if it has nothing.
    ///
    /// # Errors
    /// For a person; it is tried again later.
    async fn release(&self, pod: &Pod) -> Result<(), String>;

    /// Takes back what pods have that are not among these: all that this node has at its start.
    fn retain(&self, uids: &BTreeSet<String>);
}

/// No devices.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDevices;

#[async_trait]
impl PodDevices for NoDevices {
    fn counts(&self, _: &str) -> bool {
        false
    }

    async fn admit(&self, _: &Pod) -> Result<(), Rejection> {
        Ok(())
    }

    async fn prepare(&self, _: &Pod) -> Result<(), String> {
        Ok(())
    }

    async fn of_container(&self, _: &Pod, _: &Container) -> Result<ContainerDevices, String> {
        Ok(ContainerDevices::default())
    }

    async fn release(&self, _: &Pod) -> Result<(), String> {
        Ok(())
    }

    fn retain(&self, _: &BTreeSet<String>) {}
}

/// Puts the devices into the configuration of the container: its own things go before theirs.
pub(crate) fn put_into(config: &mut cri::ContainerConfig, devices: ContainerDevices) {
    config.devices.extend(devices.devices);
    config.mounts.splice(0..0, devices.mounts);
    let names = devices.cdi_devices.into_iter();
    config
        .cdi_devices
        .extend(names.map(|name| cri::CdiDevice { name }));
    for (name, value) in devices.annotations {
        config.annotations.entry(name).or_insert(value);
    }
}
