//! Changes of a pod's specification that are not carried out, and are said to be so.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::pod::PodExt;

/// `new` as far as it can be followed, and what of it cannot: resources stay those that the containers were
/// made with, so that the status does not claim others.
pub(super) fn keep_supported(old: &Pod, new: Arc<Pod>) -> (Arc<Pod>, Vec<String>) {
    let mut refused = Vec::new();
    let resized: Vec<&Container> = new
        .all_containers()
        .filter(|(_, one)| {
            old.container(&one.name)
                .is_some_and(|(_, before)| before.resources != one.resources)
        })
        .map(|(_, one)| one)
        .collect();
    if resized.is_empty() {
        return (new, refused);
    }
    refused.extend(
        resized
            .iter()
            .map(|one| format!("resize of container {} in place", one.name)),
    );
    let mut kept = Pod::clone(&new);
    if let Some(spec) = &mut kept.spec {
        keep_resources(old, spec);
    }
    (Arc::new(kept), refused)
}

fn keep_resources(old: &Pod, spec: &mut PodSpec) {
    for container in spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers)
    {
        if let Some((_, before)) = old.container(&container.name) {
            container.resources = before.resources.clone();
        }
    }
}
