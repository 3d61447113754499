//! Leases.
use knode_api::field::{FieldError, Path};
use serde_json::Value;

use super::Errors;

pub(crate) fn lease(lease: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let get = |name: &str| {
        lease
            .pointer("/spec")
            .and_then(|s| s.get(name))
            .and_then(Value::as_i64)
    };
    if let Some(n) = get("leaseDurationSeconds").filter(|n| *n <= 0) {
        let words = "must be greater than 0";
        errors.push(FieldError::invalid(path.child("leaseDurationSeconds"), n, words));
    }
    if let Some(n) = get("leaseTransitions").filter(|n| *n < 0) {
        let words = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(path.child("leaseTransitions"), n, words));
    }
    errors
}
