//! NamespaceLifecycle: nothing new where nothing can be.

use knode_api::status::{GroupResource, Status};
use serde_json::Value;

use super::Operation;
use crate::core::Core;
use crate::http::Failure;
use crate::registry::Ask;

/// Namespaces that the cluster can't do without.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// A new object needs a namespace that is there and stays.
pub(super) fn check_namespace(core: &Core, ask: &Ask, object: &Value) -> Result<(), Failure> {
    if !ask.kind.namespaced {
        return Ok(());
    }
    let name = ask.info.namespace.as_str();
    let Some(namespace) = core.cached("", "namespaces", name) else {
        return Err(Status::not_found(GroupResource::new("", "namespaces"), name).into());
    };
    if namespace.value()["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let object_name = object["metadata"]["name"].as_str().unwrap_or_default();
    let status = Status::forbidden(ask.resource(), object_name, &why);
    let cause = format!("namespace {name} is being terminated");
    Err(status
        .with_cause("NamespaceTerminating", &cause, "metadata.namespace")
        .into())
}

/// Some namespaces stay.
pub(super) fn check_delete(ask: &Ask, operation: Operation) -> Result<(), Failure> {
    let namespace = ask.kind.group.is_empty() && ask.kind.plural == "namespaces";
    if operation == Operation::Delete && namespace && IMMORTAL.contains(&ask.info.name.as_str()) {
        return Err(ask.forbidden(&ask.info.name, "this namespace may not be deleted"));
    }
    Ok(())
}
