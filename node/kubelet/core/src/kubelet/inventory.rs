//! What the runtime has, by pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knode_cri as cri;

use crate::error::Error;
use crate::model::{Observed, sandbox_record};
use crate::spec::labels;
use crate::worker::Context;

/// Questions to the runtime that are open at once.
const PARALLEL: usize = 8;

/// Sandboxes and containers of one pod.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// Name, namespace and containers as the labels have them.
    pub pod: Pod,
    /// What was found.
    pub observed: Observed,
}

/// Everything that the runtime has, by uid of the pod.
pub(super) async fn all(context: &Arc<Context>) -> Result<BTreeMap<String, Found>, Error> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let sandboxes = context
        .runtime()
        .list_pod_sandbox(cri::ListPodSandboxRequest::default())
        .await;
    let sandboxes = sandboxes.map_err(Error::List)?.items;
    let statuses = stream::iter(sandboxes.into_iter().map(|sandbox| sandbox.id))
        .map(|id| async move {
            let request = cri::PodSandboxStatusRequest {
                pod_sandbox_id: id,
                verbose: false,
            };
            context.runtime().pod_sandbox_status(request).await
        })
        .buffer_unordered(PARALLEL)
        .collect::<Vec<_>>()
        .await;
    for status in statuses
        .into_iter()
        .filter_map(present)
        .filter_map(|answer| answer.status)
    {
        let entry = entry(&mut found, &status.labels);
        entry.observed.put_sandbox(sandbox_record(&status));
    }
    let containers = context
        .runtime()
        .list_containers(cri::ListContainersRequest::default())
        .await;
    let containers = containers.map_err(Error::List)?.containers;
    let statuses = stream::iter(containers)
        .map(|container| async move {
            let request = cri::ContainerStatusRequest {
                container_id: container.id,
                verbose: false,
            };
            (
                container.pod_sandbox_id,
                context.runtime().container_status(request).await,
            )
        })
        .buffer_unordered(PARALLEL)
        .collect::<Vec<_>>()
        .await;
    for (sandbox, answer) in statuses {
        let Some(status) = present(answer).and_then(|answer| answer.status) else {
            continue;
        };
        let record = context.record(&status, &sandbox);
        let entry = entry(&mut found, &status.labels);
        restore(&mut entry.pod, &status);
        entry.observed.put_container(record);
    }
    found.remove("");
    Ok(found)
}

/// What vanished between two questions is not there; other failures are seen again at the next list.
fn present<T>(answer: Result<T, cri::CriError>) -> Option<T> {
    answer
        .inspect_err(|error| {
            if !error.is_not_found() {
                tracing::warn!(%error, "cannot ask the runtime about what it has");
            }
        })
        .ok()
}

fn entry<'a>(
    found: &'a mut BTreeMap<String, Found>,
    tags: &std::collections::HashMap<String, String>,
) -> &'a mut Found {
    let uid = tags.get(labels::POD_UID).cloned().unwrap_or_default();
    let entry = found.entry(uid.clone()).or_default();
    entry.pod.metadata = ObjectMeta {
        name: tags.get(labels::POD_NAME).cloned(),
        namespace: tags.get(labels::POD_NAMESPACE).cloned(),
        uid: Some(uid),
        ..entry.pod.metadata.clone()
    };
    entry
}

/// What ending a container needs of its specification, as its annotations have it.
fn restore(pod: &mut Pod, status: &cri::ContainerStatus) {
    let spec = pod.spec.get_or_insert_with(PodSpec::default);
    let grace = status
        .annotations
        .get(labels::POD_GRACE)
        .and_then(|grace| grace.parse().ok());
    spec.termination_grace_period_seconds = grace.or(spec.termination_grace_period_seconds);
    let Some(name) = status.labels.get(labels::CONTAINER_NAME) else {
        return;
    };
    if spec.containers.iter().any(|container| container.name == *name) {
        return;
    }
    let hook = status
        .annotations
        .get(labels::PRE_STOP)
        .and_then(|text| serde_json::from_str(text).ok());
    let lifecycle = k8s_openapi::api::core::v1::Lifecycle {
        pre_stop: hook,
        ..Default::default()
    };
    spec.containers.push(Container {
        name: name.clone(),
        lifecycle: Some(lifecycle),
        ..Container::default()
    });
}
