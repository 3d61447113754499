//! Claims and classes of devices (upstream: `pkg/registry/resource`).
use knode_api::field::{FieldError, Path};
use serde_json::Value;

use super::generation;
use crate::strategy::Strategy;
use crate::validation::immutable;
use crate::value::keep;

pub(crate) struct Claims;

impl Strategy for Claims {
    /// Only whoever allocates sets the status.
    fn prepare_for_create(&self, claim: &mut Value) {
        if let Some(claim) = claim.as_object_mut() {
            claim.remove("status");
        }
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        immutable(&mut errors, &Path::new("spec"), new.get("spec"), old.get("spec"));
        errors
    }

    fn delete_returns_object(&self) -> bool {
        true
    }
}

/// What is to be made of one is settled when it is created.
pub(crate) struct Templates;

impl Strategy for Templates {
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        immutable(&mut errors, &Path::new("spec"), new.get("spec"), old.get("spec"));
        errors
    }

    fn delete_returns_object(&self) -> bool {
        true
    }
}

pub(crate) struct Classes;

impl Strategy for Classes {
    fn prepare_for_create(&self, class: &mut Value) {
        generation::begin(class);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        generation::by_spec(new, old);
    }

    fn delete_returns_object(&self) -> bool {
        true
    }
}
