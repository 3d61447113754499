//! What is changed in, and refused of, requests that may be made (upstream's default admission plugins).

mod audience;
mod escalation;
mod lifecycle;
pub(crate) mod node;
mod node_labels;
mod pod;
mod signers;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::core::Core;
use crate::http::Failure;
use crate::registry::Ask;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// Changes a new object before it is checked.
pub(crate) async fn before_create(
    core: &Arc<Core>,
    ask: &mut Ask,
    object: &mut Value,
) -> Result<(), Failure> {
    lifecycle::check_namespace(core, ask, object)?;
    match (ask.kind.group, ask.kind.plural) {
        ("", "pods") => pod::admit(core, ask, object).await,
        ("", "nodes") => {
            knode_kinds::admission::new_node_taint(object);
            Ok(())
        }
        ("", "namespaces") => {
            label_namespace(object);
            Ok(())
        }
        ("certificates.k8s.io", "certificatesigningrequests") => {
            sign_request(ask, object);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Changes a changed object before it is checked.
pub(crate) fn before_update(ask: &Ask, new: &mut Value) {
    if let ("", "namespaces") = (ask.kind.group, ask.kind.plural) {
        label_namespace(new);
    }
}

/// Refuses what may not be.
pub(crate) fn check(
    core: &Arc<Core>,
    ask: &Ask,
    operation: Operation,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Failure> {
    lifecycle::check_delete(ask, operation)?;
    escalation::check(core, ask, operation, new, old)?;
    signers::check(core, ask, operation, new, old)?;
    if let (Operation::Create, "pods", Some(new), None) = (operation, ask.kind.plural, new, ask.subresource) {
        pod::check(ask, new)?;
    }
    match ask.user.node_name() {
        Some(node) => node::check(core, ask, node, operation, new, old),
        None => Ok(()),
    }
}

/// Every namespace carries its name as a label.
fn label_namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    if !object["metadata"]["labels"].is_object() {
        object["metadata"]["labels"] = json!({});
    }
    object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
}

/// A signing request says who made it, whatever he says himself.
fn sign_request(ask: &Ask, object: &mut Value) {
    let Some(spec) = object["spec"].as_object_mut() else {
        return;
    };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.insert("username".to_owned(), ask.user.name.as_str().into());
    spec.insert("groups".to_owned(), json!(ask.user.groups));
    if !ask.user.uid.is_empty() {
        spec.insert("uid".to_owned(), ask.user.uid.as_str().into());
    }
    if !ask.user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(ask.user.extra));
    }
}
