//! Nodes.
use knode_api::field::FieldError;
use serde_json::Value;

use crate::strategy::Strategy;
use crate::validation;
use crate::value::{child, keep};

pub(crate) struct Nodes;

impl Strategy for Nodes {
    fn default(&self, node: &mut Value) {
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
