//! Pods.
use jiff::Timestamp;
use knode_api::field::FieldError;
use knode_api::time;
use serde_json::{Value, json};

use super::generation;
use crate::grace::{self, Grace, GraceError};
use crate::strategy::Strategy;
use crate::validation;
use crate::value::{child, condition, elements, keep, list, text};
use crate::{defaults, qos};

pub(crate) struct Pods;

impl Strategy for Pods {
    fn default(&self, pod: &mut Value) {
        defaults::pods::pod(pod);
    }

    fn prepare_for_create(&self, pod: &mut Value) {
        generation::begin(pod);
        pod["status"] = json!({"phase": "Pending", "qosClass": qos::class(pod)});
        mark_gated(pod);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        mark_gated(new);
        generation::by_spec(new, old);
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        keep(child(new, "metadata"), &old["metadata"], "deletionTimestamp");
        keep(child(new, "metadata"), &old["metadata"], "ownerReferences");
        generation::carry(new, old, false);
        let class = old.pointer("/status/qosClass").cloned();
        if let Some(class) = class {
            child(new, "status")["qosClass"] = class;
        }
    }

    fn prepare_for_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        let allowed: &[&str] = match subresource {
            "ephemeralcontainers" => &["ephemeralContainers"],
            "resize" => &["containers", "initContainers", "resources"],
            _ => return self.prepare_for_status_update(new, old),
        };
        let mut spec = old["spec"].clone();
        for field in allowed {
            keep(&mut spec, &new["spec"], field);
        }
        let version = new.pointer("/metadata/resourceVersion").cloned();
        *new = old.clone();
        new["spec"] = spec;
        if let Some(version) = version {
            new["metadata"]["resourceVersion"] = version;
        }
        generation::by_spec(new, old);
    }

    fn stamp(&self, new: &mut Value, _old: &Value, now: Timestamp) {
        let Some(status) = new.get_mut("status") else {
            return;
        };
        let gated = elements(status, "conditions").filter(|c| text(c, "/reason") == "SchedulingGated");
        for c in gated.filter(|c| c["lastTransitionTime"].is_null()) {
            c["lastTransitionTime"] = time::rfc3339(now).into();
        }
    }

    fn validate(&self, pod: &Value) -> Vec<FieldError> {
        validation::pods::create(pod)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::pods::update(new, old)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::pods::status_update(new, old)
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        match subresource {
            "ephemeralcontainers" => validation::pods::ephemeral_update(new, old),
            "resize" => validation::pods::resize_update(new, old),
            _ => self.validate_status_update(new, old),
        }
    }

    fn delete_returns_object(&self) -> bool {
        true
    }

    fn delete_grace(&self, pod: &Value, requested: Option<i64>) -> Result<Grace, GraceError> {
        Ok(grace::pod(pod, requested))
    }
}

/// A pod with scheduling gates says so in its conditions.
fn mark_gated(pod: &mut Value) {
    if list(pod, "/spec/schedulingGates").is_empty() {
        return;
    }
    let conditions = list(pod, "/status/conditions");
    if condition(conditions, "PodScheduled").is_some() {
        return;
    }
    let mut conditions = conditions.to_vec();
    conditions.push(json!({
        "type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": null,
        "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates",
    }));
    child(pod, "status")["conditions"] = conditions.into();
}
