//! The answers, as messages.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{Claim, Given, MemoryBlock, v1};
use crate::manager::Devices;

/// What a pod's sidecars and own containers have.
pub(super) fn pod(devices: &Devices, given: &dyn Given, pod: &Pod) -> v1::PodResources {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_deref());
    let sidecars = init.unwrap_or_default().iter();
    let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let own = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    v1::PodResources {
        name: pod.metadata.name.clone().unwrap_or_default(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        containers: sidecars
            .chain(own)
            .map(|one| container(devices, given, uid, one))
            .collect(),
        ..v1::PodResources::default()
    }
}

fn container(
    devices: &Devices,
    given: &dyn Given,
    uid: &str,
    container: &Container,
) -> v1::ContainerResources {
    let name = container.name.as_str();
    let held = devices.of_container(uid, name).into_iter();
    let held = held.flat_map(|(resource, held)| {
        let of = move |(id, nodes)| device(&resource, id, &nodes);
        held.devices.into_iter().map(of)
    });
    v1::ContainerResources {
        name: name.to_owned(),
        devices: held.collect(),
        cpu_ids: given.cpus(uid, name),
        memory: memory(given.memory(uid, name)),
        dynamic_resources: given.claims(uid, name).into_iter().map(claim).collect(),
    }
}

/// All that could be given.
pub(super) fn allocatable(devices: &Devices, given: &dyn Given) -> v1::AllocatableResourcesResponse {
    let healthy = devices.healthy().into_iter();
    v1::AllocatableResourcesResponse {
        devices: healthy
            .map(|(resource, id, found)| device(&resource, id, &found.nodes))
            .collect(),
        cpu_ids: given.allocatable_cpus(),
        memory: memory(given.allocatable_memory()),
    }
}

/// Each device stands for itself, as upstream has it.
fn device(resource: &str, id: String, nodes: &BTreeSet<i64>) -> v1::ContainerDevices {
    v1::ContainerDevices {
        resource_name: resource.to_owned(),
        device_ids: vec![id],
        topology: topology(nodes.iter().copied()),
    }
}

fn topology(nodes: impl Iterator<Item = i64>) -> Option<v1::TopologyInfo> {
    let nodes: Vec<_> = nodes.map(|id| v1::NumaNode { id }).collect();
    (!nodes.is_empty()).then_some(v1::TopologyInfo { nodes })
}

fn memory(blocks: Vec<MemoryBlock>) -> Vec<v1::ContainerMemory> {
    let block = |block: MemoryBlock| v1::ContainerMemory {
        memory_type: block.kind,
        size: block.size,
        topology: topology(block.nodes.into_iter()),
    };
    blocks.into_iter().map(block).collect()
}

fn claim(claim: Claim) -> v1::DynamicResource {
    let cdi = |name| v1::CdiDevice { name };
    let devices = claim.devices.into_iter().map(|device| v1::ClaimResource {
        cdi_devices: device.cdi_devices.into_iter().map(cdi).collect(),
        driver_name: device.driver,
        pool_name: device.pool,
        device_name: device.device,
        share_id: device.share,
    });
    v1::DynamicResource {
        claim_name: claim.name,
        claim_namespace: claim.namespace,
        claim_resources: devices.collect(),
    }
}
