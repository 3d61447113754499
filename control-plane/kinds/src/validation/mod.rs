//! What may not be, with upstream's paths and words (`pkg/apis/*/validation`).
pub(crate) mod auth;
pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod containers;
pub(crate) mod daemon_sets;
mod diff;
pub(crate) mod events;
pub(crate) mod network;
pub(crate) mod nodes;
pub(crate) mod pods;
pub(crate) mod policies;
mod probes;
pub(crate) mod resources;
pub(crate) mod services;
pub(crate) mod storage;
mod tolerations;
pub(crate) mod volumes;

use knode_api::field::{FieldError, Path};
use serde_json::Value;

use crate::value::text;

pub(crate) type Errors = Vec<FieldError>;

/// Said of fields that may not change.
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// Complains of each message a name rule has.
pub(crate) fn name_rule(errors: &mut Errors, path: &Path<'_>, value: &str, rule: fn(&str) -> Vec<String>) {
    errors.extend(
        rule(value)
            .into_iter()
            .map(|m| FieldError::invalid(path, value, m)),
    );
}

/// Complains if the text at `name` is none of `allowed`; an absent one is required if `required`.
pub(crate) fn one_of(
    errors: &mut Errors,
    object: &Value,
    path: &Path<'_>,
    name: &str,
    allowed: &[&str],
    required: bool,
) {
    let value = object.get(name).and_then(Value::as_str).unwrap_or_default();
    let path = path.child(name);
    if value.is_empty() {
        if required {
            errors.push(FieldError::required(path, ""));
        }
    } else if !allowed.contains(&value) {
        errors.push(FieldError::not_supported(path, value, allowed));
    }
}

/// Complains if a field differs.
pub(crate) fn immutable(errors: &mut Errors, path: &Path<'_>, new: Option<&Value>, old: Option<&Value>) {
    if new != old {
        errors.push(FieldError::invalid(
            path,
            new.cloned().unwrap_or_default(),
            IMMUTABLE,
        ));
    }
}

/// Complains if a number is below zero.
pub(crate) fn non_negative(errors: &mut Errors, path: &Path<'_>, value: Option<&Value>) {
    if let Some(n) = value.and_then(Value::as_i64).filter(|n| *n < 0) {
        errors.push(FieldError::invalid(path, n, "must be greater than or equal to 0"));
    }
}

/// Complains if the text at `name` is empty.
pub(crate) fn required_text(errors: &mut Errors, object: &Value, path: &Path<'_>, name: &str) {
    if object
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .is_empty()
    {
        errors.push(FieldError::required(path.child(name), ""));
    }
}

/// Checks `matchLabels` and `matchExpressions`.
pub(crate) fn label_selector(errors: &mut Errors, selector: &Value, path: &Path<'_>) {
    let labels = path.child("matchLabels");
    crate::rows::meta::labels(errors, crate::value::map(selector, "/matchLabels"), &labels);
    let expressions = path.child("matchExpressions");
    for (i, e) in crate::value::list(selector, "/matchExpressions")
        .iter()
        .enumerate()
    {
        let at = expressions.index(i);
        let values = crate::value::list(e, "/values");
        match text(e, "/operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                at.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                at.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                at.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        name_rule(
            errors,
            &at.child("key"),
            text(e, "/key"),
            knode_api::names::qualified_name,
        );
    }
}

#[cfg(test)]
mod tests;
