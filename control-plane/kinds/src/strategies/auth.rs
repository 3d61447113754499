//! Roles and certificate signing requests.
use jiff::Timestamp;
use knode_api::field::FieldError;
use knode_api::{names, time};
use serde_json::Value;

use crate::strategy::Strategy;
use crate::validation;
use crate::value::{child, condition, elements, keep, list, set_default, text};

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) struct Roles;

impl Strategy for Roles {
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment(name)
    }

    fn validate(&self, role: &Value) -> Vec<FieldError> {
        validation::auth::role(role)
    }
}

pub(crate) struct Bindings;

impl Strategy for Bindings {
    fn default(&self, binding: &mut Value) {
        set_default(child(binding, "roleRef"), "apiGroup", RBAC_GROUP);
        for subject in elements(binding, "subjects") {
            if matches!(text(subject, "/kind"), "User" | "Group") {
                set_default(subject, "apiGroup", RBAC_GROUP);
            }
        }
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment(name)
    }

    fn validate(&self, binding: &Value) -> Vec<FieldError> {
        validation::auth::binding(binding)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::auth::binding_update(new, old)
    }
}

/// The requester's identity in `spec` is the API server's to set; whatever a client says there is not kept.
pub(crate) struct CertificateSigningRequests;

impl Strategy for CertificateSigningRequests {
    // Kubelets name theirs by a hash with capital letters and underscores.
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment(name)
    }

    fn prepare_for_create(&self, request: &mut Value) {
        request["status"] = serde_json::json!({});
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        keep(new, old, "status");
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        let mut conditions: Vec<Value> = list(new, "/status/conditions").to_vec();
        conditions.retain(|c| !is_decision(c));
        let decided = list(old, "/status/conditions")
            .iter()
            .filter(|c| is_decision(c))
            .cloned();
        let conditions: Vec<Value> = decided.chain(conditions).collect();
        set_conditions(new, conditions);
    }

    fn prepare_for_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        if subresource != "approval" {
            return self.prepare_for_status_update(new, old);
        }
        keep(new, old, "spec");
        let conditions = list(new, "/status/conditions").to_vec();
        keep(new, old, "status");
        set_conditions(new, conditions);
    }

    fn stamp(&self, new: &mut Value, old: &Value, now: Timestamp) {
        let before = list(old, "/status/conditions").to_vec();
        let Some(status) = new.get_mut("status") else {
            return;
        };
        for c in elements(status, "conditions") {
            let was = condition(&before, text(c, "/type"));
            let unchanged = was.is_some_and(|w| w == c);
            if !unchanged {
                set_default(c, "lastUpdateTime", time::rfc3339(now));
            }
            if c.get("lastTransitionTime").is_none_or(Value::is_null) {
                let since = was
                    .filter(|w| w["status"] == c["status"])
                    .map(|w| w["lastTransitionTime"].clone());
                c["lastTransitionTime"] = since.unwrap_or_else(|| time::rfc3339(now).into());
            }
        }
    }

    fn validate(&self, request: &Value) -> Vec<FieldError> {
        validation::auth::certificate_request(request)
    }

    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }
}

fn is_decision(condition: &Value) -> bool {
    matches!(text(condition, "/type"), "Approved" | "Denied")
}

fn set_conditions(request: &mut Value, conditions: Vec<Value>) {
    let status = child(request, "status");
    if conditions.is_empty() {
        if let Some(status) = status.as_object_mut() {
            status.remove("conditions");
        }
    } else {
        status["conditions"] = conditions.into();
    }
}
