//! Checkpoints of containers (`/checkpoint/{namespace}/{pod}/{container}`): the runtime writes them.

use std::os::unix::fs::DirBuilderExt;

use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knode_cri::CheckpointContainerRequest;
use serde_json::json;

use super::Kubelet;
use super::body::{Answer, json, text};
use super::route::Target;
use crate::pods::running_container_id;

/// Lets the runtime write a checkpoint below the kubelet's directory, and says where it is.
pub(super) async fn checkpoint(kubelet: &Kubelet, target: &Target, query: &[(String, String)]) -> Answer {
    let Target {
        namespace,
        pod: name,
        container,
        ..
    } = target;
    let Some(pod) = kubelet.pods.pod(namespace, name) else {
        return text(StatusCode::NOT_FOUND, "pod does not exist");
    };
    if !has_container(&pod, container) {
        return text(
            StatusCode::NOT_FOUND,
            format!("container {container} does not exist"),
        );
    }
    // Of several the last one counts.
    let timeout = query.iter().rev().find(|(key, _)| key == "timeout");
    let Ok(timeout) = timeout.map_or(Ok(0), |(_, value)| value.parse::<i64>()) else {
        return text(StatusCode::NOT_FOUND, "cannot parse value of timeout parameter");
    };
    let failed = |why: String| {
        let message = format!("checkpointing of {namespace}/{name}/{container} failed ({why})");
        text(StatusCode::INTERNAL_SERVER_ERROR, message)
    };
    let Some(container_id) = running_container_id(&pod, container) else {
        return failed(format!("container {container} not found"));
    };
    let directory = kubelet.root_dir.join("checkpoints");
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory);
    if let Err(error) = made {
        return failed(format!("cannot create {}: {error}", directory.display()));
    }
    let now = kubelet.clock.now();
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let location = directory.join(format!("checkpoint-{name}_{namespace}-{container}-{now}.tar"));
    let location = location.to_string_lossy().into_owned();
    let request = CheckpointContainerRequest {
        container_id,
        location: location.clone(),
        timeout,
    };
    match kubelet.runtime.checkpoint_container(request).await {
        Ok(_) => json(&json!({"items": [location]})),
        Err(error) => failed(error.rpc_text()),
    }
}

fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let inits = spec.init_containers.iter().flatten();
    let own = inits.chain(&spec.containers).map(|one| &one.name);
    let debugging = spec.ephemeral_containers.iter().flatten().map(|one| &one.name);
    own.chain(debugging).any(|one| one == name)
}
