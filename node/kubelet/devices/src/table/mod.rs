//! Which devices there are and who has which (upstream: `pkg/kubelet/cm/devicemanager`), pure.

mod allocate;
mod error;
mod hints;
mod options;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use allocate::Question;
pub use error::AllocationError;
pub use options::RunOptions;

use crate::asked::Asked;
use crate::v1beta1::ContainerAllocateResponse;

/// How long the devices of a plugin that is gone are still counted (upstream: `endpointStopGracePeriod`).
pub const GRACE: Duration = Duration::from_secs(5 * 60);

/// A device as its plugin lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Whether it can be given away.
    pub healthy: bool,
    /// The NUMA nodes that it is near to.
    pub nodes: BTreeSet<i64>,
}

/// What a plugin wants to be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// It is called before a container with its devices starts.
    pub pre_start: bool,
    /// It says which devices it would rather give away.
    pub preferred: bool,
}

/// A plugin's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// It answers.
    Running(Options),
    /// It has been gone since then (monotonic).
    Stopped(Duration),
}

/// How many devices of a resource there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub capacity: usize,
    /// The healthy ones.
    pub allocatable: usize,
}

/// What a container has of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// The devices, with the NUMA nodes that they are near to.
    pub devices: BTreeMap<String, BTreeSet<i64>>,
    /// The plugin's answer; none until it was asked.
    pub response: Option<ContainerAllocateResponse>,
    /// The nodes from which they were to come.
    affinity: Option<knode_kubelet_resources::topology::NumaMask>,
}

#[derive(Clone, Debug)]
struct Resource {
    devices: BTreeMap<String, Device>,
    endpoint: Endpoint,
}

impl Resource {
    fn healthy(&self) -> BTreeSet<String> {
        let healthy = self.devices.iter().filter(|(_, device)| device.healthy);
        healthy.map(|(id, _)| id.clone()).collect()
    }

    /// Whether any device says where it is near to.
    fn has_topology(&self) -> bool {
        self.devices.values().any(|device| !device.nodes.is_empty())
    }
}

/// By container, then by resource.
type PodDevices = BTreeMap<String, BTreeMap<String, Allocation>>;

/// All devices and who has them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    resources: BTreeMap<String, Resource>,
    pods: BTreeMap<String, PodDevices>,
    /// Resources whose plugins have gone for good.
    gone: BTreeSet<String>,
}

impl Table {
    /// What was remembered: resources whose plugins have yet to come back, and who had what.
    pub fn restored(
        resources: impl IntoIterator<Item = String>,
        held: impl IntoIterator<Item = Held>,
        now: Duration,
    ) -> Self {
        let gone = || Resource {
            devices: BTreeMap::new(),
            endpoint: Endpoint::Stopped(now),
        };
        let resources = resources.into_iter().map(|name| (name, gone())).collect();
        let mut table = Self {
            resources,
            ..Self::default()
        };
        for one in held {
            let allocation = Allocation {
                devices: one.devices,
                response: Some(one.response),
                affinity: None,
            };
            let containers = table.pods.entry(one.pod).or_default();
            containers
                .entry(one.container)
                .or_default()
                .insert(one.resource, allocation);
        }
        table
    }

    /// A plugin has registered. Devices that are known stay as they are until it lists its own.
    pub fn connected(&mut self, resource: &str, options: Options) {
        self.gone.remove(resource);
        let entry = self.resources.entry(resource.to_owned());
        let endpoint = Endpoint::Running(options);
        entry
            .and_modify(|resource| resource.endpoint = endpoint)
            .or_insert(Resource {
                devices: BTreeMap::new(),
                endpoint,
            });
    }

    /// A plugin says which devices it has: all of them. Nothing of a plugin that is gone counts.
    pub fn listed(&mut self, resource: &str, devices: BTreeMap<String, Device>) {
        if let Some(resource) = self.resources.get_mut(resource) {
            resource.devices = devices;
        }
    }

    /// A plugin is gone: its devices cannot be given away, and count for a while.
    pub fn disconnected(&mut self, resource: &str, now: Duration) {
        if let Some(resource) = self.resources.get_mut(resource) {
            resource.endpoint = Endpoint::Stopped(now);
            resource
                .devices
                .values_mut()
                .for_each(|device| device.healthy = false);
        }
    }

    /// How many devices there are. Those whose plugin has been gone for [`GRACE`] are forgotten, and nought from then on:
    /// that tells others that there were some.
    pub fn counts(&mut self, now: Duration) -> BTreeMap<String, Count> {
        let mut counts = BTreeMap::new();
        let gone = &mut self.gone;
        self.resources.retain(|name, resource| {
            let stays = match resource.endpoint {
                Endpoint::Running(_) => true,
                Endpoint::Stopped(since) => now.saturating_sub(since) < GRACE,
            };
            let count = Count {
                capacity: resource.devices.len(),
                allocatable: resource.healthy().len(),
            };
            match stays {
                true => drop(counts.insert(name.clone(), count)),
                false => drop(gone.insert(name.clone())),
            }
            stays
        });
        let nought = self.gone.iter().map(|name| (name.clone(), Count::default()));
        counts.extend(nought);
        counts
    }

    /// Whether plugins offer this resource, or somebody has some of it.
    pub fn knows(&self, resource: &str) -> bool {
        let held = |pod: &PodDevices| pod.values().any(|container| container.contains_key(resource));
        self.resources.contains_key(resource) || self.pods.values().any(held)
    }

    /// Names of all resources of plugins, gone ones included.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.resources.keys().map(String::as_str)
    }

    /// Healthy devices by resource.
    pub fn healthy(&self) -> impl Iterator<Item = (&str, &str, &Device)> {
        self.resources.iter().flat_map(|(name, resource)| {
            let healthy = resource.devices.iter().filter(|(_, device)| device.healthy);
            healthy.map(move |(id, device)| (name.as_str(), id.as_str(), device))
        })
    }

    /// What everybody has, for the checkpoint: only what plugins have answered for.
    pub fn held(&self) -> Vec<Held> {
        let mut all = Vec::new();
        for (pod, containers) in &self.pods {
            for (container, resources) in containers {
                let answered = resources.iter().filter_map(|(resource, allocation)| {
                    Some(Held {
                        pod: pod.clone(),
                        container: container.clone(),
                        resource: resource.clone(),
                        devices: allocation.devices.clone(),
                        response: allocation.response.clone()?,
                    })
                });
                all.extend(answered);
            }
        }
        all
    }

    /// What a container has, by resource.
    pub fn of_container(&self, pod: &str, container: &str) -> Option<&BTreeMap<String, Allocation>> {
        self.pods.get(pod)?.get(container)
    }

    /// Takes back everything that a pod has; whether it had anything.
    pub fn release(&mut self, pod: &str) -> bool {
        self.pods.remove(pod).is_some()
    }

    /// Takes back what pods have that are not among these; whether any had anything.
    pub fn retain(&mut self, pods: &BTreeSet<String>) -> bool {
        let before = self.pods.len();
        self.pods.retain(|uid, _| pods.contains(uid));
        self.pods.len() != before
    }

    fn allocation(&self, pod: &str, container: &str, resource: &str) -> Option<&Allocation> {
        self.of_container(pod, container)?.get(resource)
    }

    /// Devices that somebody has.
    fn used(&self, resource: &str) -> BTreeSet<&str> {
        let containers = self.pods.values().flat_map(BTreeMap::values);
        let held = containers.filter_map(|resources| resources.get(resource));
        held.flat_map(|allocation| allocation.devices.keys().map(String::as_str))
            .collect()
    }

    /// Devices of init containers that have ended when the next one starts, which has them before others.
    fn reusable(&self, asked: &Asked, resource: &str) -> BTreeSet<String> {
        let devices = |is_init: bool| {
            let parts = asked.parts.iter().filter(move |part| part.is_init == is_init);
            let held = parts.filter_map(|part| self.allocation(&asked.uid, &part.name, resource));
            held.flat_map(|allocation| allocation.devices.keys().cloned())
                .collect::<BTreeSet<_>>()
        };
        devices(true).difference(&devices(false)).cloned().collect()
    }
}

/// What a container has of a resource, as it is remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The pod's uid.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// The resource.
    pub resource: String,
    /// Devices with the NUMA nodes that they are near to.
    pub devices: BTreeMap<String, BTreeSet<i64>>,
    /// The plugin's answer.
    pub response: ContainerAllocateResponse,
}
