//! Endpoints, EndpointSlices and NetworkPolicies.
use knode_api::field::FieldError;
use serde_json::Value;

use super::generation;
use crate::strategy::Strategy;
use crate::validation;
use crate::value::{child, elements, list, set_default};

pub(crate) struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, endpoints: &mut Value) {
        for subset in elements(endpoints, "subsets") {
            for port in elements(subset, "ports") {
                set_default(port, "protocol", "TCP");
            }
        }
    }
}

pub(crate) struct EndpointSlices;

impl Strategy for EndpointSlices {
    fn default(&self, slice: &mut Value) {
        for port in elements(slice, "ports") {
            set_default(port, "name", "");
            set_default(port, "protocol", "TCP");
        }
    }

    fn prepare_for_create(&self, slice: &mut Value) {
        generation::begin(slice);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        let parts = ["endpoints", "ports", "addressType"];
        let labels = |o: &Value| o.pointer("/metadata/labels").cloned();
        let changed = parts.iter().any(|p| new.get(p) != old.get(p)) || labels(new) != labels(old);
        generation::carry(new, old, changed);
    }

    fn validate(&self, slice: &Value) -> Vec<FieldError> {
        validation::network::slice(slice)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::network::slice_update(new, old)
    }

    fn delete_returns_object(&self) -> bool {
        false
    }
}

pub(crate) struct NetworkPolicies;

impl Strategy for NetworkPolicies {
    fn default(&self, policy: &mut Value) {
        let has_egress = !list(policy, "/spec/egress").is_empty();
        let spec = child(policy, "spec");
        for rules in ["ingress", "egress"] {
            for rule in elements(spec, rules) {
                for port in elements(rule, "ports") {
                    set_default(port, "protocol", "TCP");
                }
            }
        }
        if list(spec, "/policyTypes").is_empty() {
            let types: &[&str] = if has_egress {
                &["Ingress", "Egress"]
            } else {
                &["Ingress"]
            };
            spec["policyTypes"] = types.into();
        }
    }

    fn prepare_for_create(&self, policy: &mut Value) {
        generation::begin(policy);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        generation::by_spec(new, old);
    }

    fn validate(&self, policy: &Value) -> Vec<FieldError> {
        validation::policies::policy(policy)
    }
}
