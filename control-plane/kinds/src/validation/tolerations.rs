//! Tolerations.
use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::Value;

use super::{Errors, name_rule};
use crate::value::{list, text};

/// Effects that a taint may have.
pub(super) const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn all(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    for (i, t) in list(spec, "/tolerations").iter().enumerate() {
        one(errors, t, &path.index(i));
    }
}

fn one(errors: &mut Errors, t: &Value, at: &Path<'_>) {
    let (key, operator, value, effect) = (
        text(t, "/key"),
        text(t, "/operator"),
        text(t, "/value"),
        text(t, "/effect"),
    );
    if !key.is_empty() {
        name_rule(errors, &at.child("key"), key, names::qualified_name);
    } else if operator != "Exists" {
        let words =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(at.child("operator"), operator, words));
    }
    if t.get("tolerationSeconds").is_some_and(|s| !s.is_null()) && effect != "NoExecute" {
        let words = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(at.child("effect"), effect, words));
    }
    match operator {
        "Equal" | "" => {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                errors.push(FieldError::invalid(
                    at.child("operator"),
                    value,
                    messages.join(";"),
                ));
            }
        }
        "Exists" => {
            if !value.is_empty() {
                let words = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(at.child("operator"), t.clone(), words));
            }
        }
        _ => errors.push(FieldError::not_supported(
            at.child("operator"),
            operator,
            &["Equal", "Exists"],
        )),
    }
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        errors.push(FieldError::not_supported(at.child("effect"), effect, &EFFECTS));
    }
}
