//! Nodes.
use knode_api::field::FieldError;
use serde_json::{Value, json};

use crate::strategy::Strategy;
use crate::validation;
use crate::value::{child, keep, list, text};

pub(crate) struct Nodes;

impl Strategy for Nodes {
    fn default(&self, node: &mut Value) {
        if let Some(spec) = node.get_mut("spec") {
            one_and_all(spec);
        }
        let status = child(node, "status");
        if let Some(capacity) = status.get("capacity").cloned()
            && status.get("allocatable").is_none_or(Value::is_null)
        {
            status["allocatable"] = capacity;
        }
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate(&self, node: &Value) -> Vec<FieldError> {
        validation::nodes::create(node)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::nodes::update(new, old)
    }
}

/// `podCIDR` is the first of `podCIDRs`; where they differ the one counts, as older clients know only that.
fn one_and_all(spec: &mut Value) {
    let one = text(spec, "/podCIDR").to_owned();
    let first = list(spec, "/podCIDRs").first().cloned();
    match (one.as_str(), first) {
        ("", Some(first)) => spec["podCIDR"] = first,
        ("", None) => {}
        (_, first) if first.as_ref().is_none_or(|first| *first != one) => spec["podCIDRs"] = json!([one]),
        _ => {}
    }
}
