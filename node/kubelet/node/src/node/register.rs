//! Bringing the Node object into the API.

use k8s_openapi::api::core::v1::Node;
use knode_client::{Api, ApiError, is_conflict};
use kube::api::{Patch, PatchParams, PostParams};

use super::object::reconcile_patch;

/// Creates the node; where it exists already, gives it the labels that it lacks. The node as the API has it.
pub(crate) async fn register(nodes: &Api<Node>, wanted: &Node) -> Result<Node, ApiError> {
    let created = nodes.create(&PostParams::default(), wanted).await;
    match created {
        Err(error) if is_conflict(&error) => {}
        other => return other,
    }
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    let existing = nodes.get(name).await?;
    match reconcile_patch(&existing, wanted) {
        Some(patch) => {
            nodes
                .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await
        }
        None => Ok(existing),
    }
}
