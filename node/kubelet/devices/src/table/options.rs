//! What a container is given to use its devices.

use std::collections::BTreeMap;

use super::{Endpoint, Table};
use crate::v1beta1::{DeviceSpec, Mount};

/// What plugins want a container to be given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunOptions {
    /// Environment variables.
    pub envs: BTreeMap<String, String>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Device nodes.
    pub devices: Vec<DeviceSpec>,
    /// Annotations for the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Names of CDI devices.
    pub cdi_devices: Vec<String>,
}

impl Table {
    /// All that plugins answered for this container. Of two that want the same name or path the first counts.
    pub fn run_options(&self, pod: &str, container: &str) -> RunOptions {
        let mut options = RunOptions::default();
        let allocations = self.of_container(pod, container).into_iter().flatten();
        for response in allocations.filter_map(|(_, allocation)| allocation.response.as_ref()) {
            for (name, value) in &response.envs {
                add(&mut options.envs, name, value, "environment variable");
            }
            for (name, value) in &response.annotations {
                add(&mut options.annotations, name, value, "annotation");
            }
            for mount in &response.mounts {
                let same = |one: &&Mount| one.container_path == mount.container_path;
                match options.mounts.iter().find(same) {
                    Some(first) => {
                        conflict("mount", &first.container_path, first.host_path != mount.host_path)
                    }
                    None => options.mounts.push(mount.clone()),
                }
            }
            for device in &response.devices {
                let same = |one: &&DeviceSpec| one.container_path == device.container_path;
                match options.devices.iter().find(same) {
                    Some(first) => conflict(
                        "device",
                        &first.container_path,
                        first.host_path != device.host_path,
                    ),
                    None => options.devices.push(device.clone()),
                }
            }
            for device in &response.cdi_devices {
                if !options.cdi_devices.contains(&device.name) {
                    options.cdi_devices.push(device.name.clone());
                }
            }
        }
        options
    }

    /// Devices of a container whose plugins are called before it starts, by resource.
    pub fn pre_start(&self, pod: &str, container: &str) -> Vec<(String, Vec<String>)> {
        let wants = |resource: &String| {
            let endpoint = self.resources.get(resource).map(|one| one.endpoint);
            matches!(endpoint, Some(Endpoint::Running(options)) if options.pre_start)
        };
        let all = self.of_container(pod, container).into_iter().flatten();
        all.filter(|(resource, _)| wants(resource))
            .map(|(resource, held)| (resource.clone(), held.devices.keys().cloned().collect()))
            .collect()
    }
}

fn add(all: &mut BTreeMap<String, String>, name: &str, value: &str, what: &str) {
    match all.get(name) {
        Some(first) => conflict(what, name, first != value),
        None => drop(all.insert(name.to_owned(), value.to_owned())),
    }
}

fn conflict(what: &str, name: &str, differs: bool) {
    if differs {
        tracing::warn!(
            what,
            name,
            "device plugins contradict one another; the first counts"
        );
    }
}
