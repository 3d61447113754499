//! What the scheduler writes: bindings and conditions.

use k8s_openapi::api::core::v1 as core;
use knode_client::{Api, ApiError, Client, ObjectKey};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::model::Pod;

/// Binds a pod to a node.
pub(crate) async fn bind(client: &Client, pod: &Pod, node: &str) -> Result<(), ApiError> {
    let body = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": pod.key.name, "namespace": pod.key.namespace, "uid": pod.uid},
        "target": {"kind": "Node", "name": node},
    });
    let pods = api(client, &pod.key);
    let _status: Value = pods
        .create_subresource("binding", &pod.key.name, &PostParams::default(), &body)
        .await?;
    Ok(())
}

/// Patches a pod's status.
pub(crate) async fn patch_status(client: &Client, key: &ObjectKey, patch: &Value) -> Result<(), ApiError> {
    let params = PatchParams::default();
    api(client, key)
        .patch_status(&key.name, &params, &Patch::Strategic(patch))
        .await
        .map(|_| ())
}

fn api(client: &Client, key: &ObjectKey) -> Api<core::Pod> {
    Api::namespaced(client.clone(), &key.namespace)
}
