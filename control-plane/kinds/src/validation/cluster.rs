//! Leases and runtime classes.
use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::Value;

use super::{Errors, immutable, name_rule, resources, tolerations};
use crate::value::{map, text};

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

pub(crate) fn runtime_class(class: &Value) -> Errors {
    let mut errors = Errors::new();
    let handler = text(class, "/handler");
    name_rule(&mut errors, &Path::new("handler"), handler, names::dns1123_label);
    let overhead = Path::new("overhead");
    let fixed = map(class, "/overhead/podFixed");
    resources::amounts(&mut errors, fixed, &overhead.child("podFixed"));
    if let Some(scheduling) = class.get("scheduling") {
        let path = Path::new("scheduling");
        let selector = map(scheduling, "/nodeSelector");
        crate::rows::meta::labels(&mut errors, selector, &path.child("nodeSelector"));
        tolerations::all(&mut errors, scheduling, &path.child("tolerations"));
    }
    errors
}

pub(crate) fn runtime_class_update(new: &Value, old: &Value) -> Errors {
    let mut errors = runtime_class(new);
    immutable(
        &mut errors,
        &Path::new("handler"),
        new.get("handler"),
        old.get("handler"),
    );
    errors
}
