//! Placing a pod on a node.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use knode_api::field::FieldError;
use knode_api::status::{GroupResource, Status};
use serde_json::{Map, Value, json};

use crate::clock::stamp;
use crate::core::Core;
use crate::http::{Failure, Outcome, json as reply};
use crate::registry::{Ask, Change, Wanted, change_object, read_typed};
use crate::request::WriteOptions;

struct Bind {
    target: String,
    annotations: Map<String, Value>,
}

/// The answer to a POST of a Binding.
pub(super) async fn bind(core: &Arc<Core>, ask: &mut Ask, body: &Bytes) -> Outcome {
    let options = WriteOptions::parse(&ask.query, "CreateOptions")?;
    let wanted = Wanted {
        group: "",
        version: "v1",
        kind: "Binding",
    };
    let binding = read_typed(
        &ask.headers,
        body,
        wanted,
        options.field_validation,
        &mut ask.warnings,
    )?;
    let mut change = check(ask, &binding)?;
    change_object(core, ask, &options, &mut change).await?;
    Ok(reply(StatusCode::CREATED, &success(201)))
}

/// A Status that says yes.
pub(super) fn success(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code})
}

fn check(ask: &Ask, binding: &Value) -> Result<Bind, Failure> {
    let target = &binding["target"];
    let kind = target["kind"].as_str().unwrap_or_default();
    let name = target["name"].as_str().unwrap_or_default();
    let mut errors = Vec::new();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(
            "target.kind",
            kind,
            &["Node", "<empty>"],
        ));
    }
    if name.is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(GroupResource::new("", "Binding"), &ask.info.name, &errors).into());
    }
    let given = binding["metadata"]["name"].as_str().unwrap_or_default();
    if !given.is_empty() && given != ask.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object").into());
    }
    let annotations = binding["metadata"]["annotations"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    Ok(Bind {
        target: name.to_owned(),
        annotations,
    })
}

impl Change for Bind {
    fn apply(&mut self, ask: &mut Ask, old: &Value) -> Result<Value, Failure> {
        let name = &ask.info.name;
        let conflict = |why: String| -> Failure {
            Status::conflict(GroupResource::new("", "pods/binding"), name, &why).into()
        };
        if old["metadata"]["deletionTimestamp"].is_string() {
            return Err(conflict(format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            )));
        }
        if let Some(node) = old["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
            return Err(conflict(format!(
                "pod {name} is already assigned to node {node:?}"
            )));
        }
        if old["spec"]["schedulingGates"]
            .as_array()
            .is_some_and(|gates| !gates.is_empty())
        {
            return Err(conflict(format!(
                "pod {name} has non-empty .spec.schedulingGates"
            )));
        }
        let mut new = old.clone();
        new["spec"]["nodeName"] = self.target.as_str().into();
        for (key, value) in &self.annotations {
            new["metadata"]["annotations"][key] = value.clone();
        }
        set_scheduled(&mut new);
        Ok(new)
    }
}

fn set_scheduled(pod: &mut Value) {
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": stamp()});
    match pod["status"]["conditions"].as_array_mut() {
        None => pod["status"]["conditions"] = json!([condition]),
        Some(conditions) => match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
            Some(found) => *found = condition,
            None => conditions.push(condition),
        },
    }
}
