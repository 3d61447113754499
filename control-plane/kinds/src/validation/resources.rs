//! Requests and limits.
use knode_api::field::{FieldError, Path};
use knode_api::names;
use knode_api::quantity::Quantity;
use serde_json::{Map, Value};

use super::Errors;
use crate::value::map;

/// `resources` of a container (or pod).
pub(crate) fn requirements(errors: &mut Errors, container: &Value, path: &Path<'_>) {
    let limits = map(container, "/resources/limits");
    let requests = map(container, "/resources/requests");
    amounts(errors, limits, &path.child("limits"));
    let at = path.child("requests");
    for (name, text) in requests.into_iter().flatten() {
        amount(errors, name, text, &at);
        let limit = limits
            .and_then(|l| l.get(name))
            .and_then(Value::as_str)
            .and_then(|t| Quantity::parse(t).ok());
        let request = text.as_str().and_then(|t| Quantity::parse(t).ok());
        let (Some(limit), Some(request)) = (limit, request) else {
            continue;
        };
        if overcommits(name) && request > limit {
            let words = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(FieldError::invalid(at, request.to_string(), words));
        } else if !overcommits(name) && request != limit {
            let words = format!("must be equal to {name} limit of {limit}");
            errors.push(FieldError::invalid(at, request.to_string(), words));
        }
    }
    for (name, _) in limits.into_iter().flatten().filter(|(n, _)| !overcommits(n)) {
        if requests.is_none_or(|r| !r.contains_key(name)) {
            errors.push(FieldError::required(
                at,
                "Request must be set for non overcommitable resources",
            ));
        }
    }
}

/// Whether a limit may be above the request.
fn overcommits(name: &str) -> bool {
    is_native(name) && !name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A list of amounts by name.
pub(crate) fn amounts(errors: &mut Errors, all: Option<&Map<String, Value>>, path: &Path<'_>) {
    for (name, text) in all.into_iter().flatten() {
        amount(errors, name, text, path);
    }
}

fn amount(errors: &mut Errors, name: &str, text: &Value, path: &Path<'_>) {
    let at = path.key(name);
    errors.extend(
        names::qualified_name(name)
            .into_iter()
            .map(|m| FieldError::invalid(at, name, m)),
    );
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !standard {
        errors.push(FieldError::invalid(
            at,
            name,
            "must be a standard resource for containers",
        ));
    }
    let Some(quantity) = text.as_str().and_then(|t| Quantity::parse(t).ok()) else {
        return;
    };
    if quantity.is_negative() {
        let words = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(at, quantity.to_string(), words));
    }
    if !is_native(name) && quantity.milli_value() % 1000 != 0 {
        errors.push(FieldError::invalid(
            at,
            quantity.to_string(),
            "must be an integer",
        ));
    }
}
