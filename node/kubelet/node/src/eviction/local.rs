//! Pods that hold more of the node's disk than they may (upstream: `localStorageEviction`). Pure.

use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use knode_api::quantity::{Format, Quantity};

use super::rank::PodUse;

const STORAGE: &str = "ephemeral-storage";

/// Whether the pod has a limit that is about the disk, so that what it holds has to be measured.
pub(super) fn is_limited(pod: &Pod) -> bool {
    volumes(pod).any(|volume| size_limit(volume).is_some()) || containers(pod).any(|one| limit(one).is_some())
}

/// What a pod holds too much of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excess {
    /// What metrics call it.
    pub signal: &'static str,
    /// Why the pod is ended, for a person.
    pub message: String,
}

/// What the pod is ended for, if it holds more than it may: of an emptyDir volume, as a whole, or in a container.
pub(super) fn over_limit(used: &PodUse) -> Option<Excess> {
    let of = |signal, message: Option<String>| message.map(|message| Excess { signal, message });
    of("emptydirfs.limit", of_volume(used))
        .or_else(|| of("ephemeralpodfs.limit", of_pod(used)))
        .or_else(|| of("ephemeralcontainerfs.limit", of_container(used)))
}

fn of_volume(used: &PodUse) -> Option<String> {
    let over = |volume: &&Volume| {
        let held = used.volumes.get(&volume.name).copied().unwrap_or(0);
        size_limit(volume).is_some_and(|limit| is_more(held, limit))
    };
    let volume = volumes(&used.pod).find(over)?;
    let limit = size_limit(volume)?;
    Some(format!(
        "Usage of EmptyDir volume \"{}\" exceeds the limit \"{limit}\". ",
        volume.name
    ))
}

fn of_pod(used: &PodUse) -> Option<String> {
    let mut total: Option<Quantity> = None;
    for limit in containers(&used.pod).filter_map(limit) {
        total = Some(match total {
            Some(mut sum) => {
                sum.add(limit);
                sum
            }
            None => limit,
        });
    }
    let total = total.filter(|total| is_more(used.disk(), *total))?;
    Some(format!(
        "Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
    ))
}

fn of_container(used: &PodUse) -> Option<String> {
    used.containers.iter().find_map(|one| {
        let container = containers(&used.pod).find(|container| container.name == one.name)?;
        let limit = limit(container).filter(|limit| is_more(one.disk, *limit))?;
        let name = &one.name;
        Some(format!(
            "Container {name} exceeded its local ephemeral storage limit \"{limit}\". "
        ))
    })
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| &spec.containers)
}

fn size_limit(volume: &Volume) -> Option<Quantity> {
    let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
    Quantity::parse(&limit.0).ok().filter(|limit| limit.value() > 0)
}

fn limit(container: &Container) -> Option<Quantity> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    Quantity::parse(&limits.get(STORAGE)?.0)
        .ok()
        .filter(|limit| limit.value() > 0)
}

fn is_more(bytes: u64, limit: Quantity) -> bool {
    Quantity::from_int(i64::try_from(bytes).unwrap_or(i64::MAX), Format::BinarySi) > limit
}
