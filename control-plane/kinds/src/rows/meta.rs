//! What holds for the metadata of every object (`k8s.io/apimachinery/pkg/api/validation`).
use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::{Map, Value};

use crate::kind::Kind;
use crate::value::{flag, list, map, text};

/// All annotations of an object together may hold this many bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// The usual rule for names: an RFC 1123 subdomain; a prefix may end with `-`.
pub fn subdomain_name(name: &str, prefix: bool) -> Vec<String> {
    names::dns1123_subdomain(stem(name, prefix))
}

/// A prefix that ends with `-` counts without it.
pub(crate) fn stem(name: &str, prefix: bool) -> &str {
    if prefix {
        name.strip_suffix('-').unwrap_or(name)
    } else {
        name
    }
}

/// What is wrong with a new object's metadata.
pub fn validate(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("metadata");
    let (name, generate) = (
        text(object, "/metadata/name"),
        text(object, "/metadata/generateName"),
    );
    let mut check = |field: &str, value: &str, prefix: bool| {
        let messages = kind.strategy.validate_name(value, prefix);
        errors.extend(
            messages
                .into_iter()
                .map(|m| FieldError::invalid(path.child(field), value, m)),
        );
    };
    if !generate.is_empty() {
        check("generateName", generate, true);
    }
    if name.is_empty() {
        errors.push(FieldError::required(
            path.child("name"),
            "name or generateName is required",
        ));
    } else {
        check("name", name, false);
    }
    namespace(&mut errors, kind, object, &path);
    common(&mut errors, object, &path);
    errors
}

fn namespace(errors: &mut Vec<FieldError>, kind: &Kind, object: &Value, path: &Path<'_>) {
    let namespace = text(object, "/metadata/namespace");
    let at = path.child("namespace");
    match (kind.namespaced, namespace.is_empty()) {
        (true, true) => errors.push(FieldError::required(at, "")),
        (true, false) => {
            let messages = names::dns1123_label(namespace);
            errors.extend(
                messages
                    .into_iter()
                    .map(|m| FieldError::invalid(at, namespace, m)),
            );
        }
        (false, false) => errors.push(FieldError::forbidden(at, "not allowed on this type")),
        (false, true) => {}
    }
}

fn common(errors: &mut Vec<FieldError>, object: &Value, path: &Path<'_>) {
    labels(errors, map(object, "/metadata/labels"), &path.child("labels"));
    annotations(
        errors,
        map(object, "/metadata/annotations"),
        &path.child("annotations"),
    );
    owners(
        errors,
        list(object, "/metadata/ownerReferences"),
        &path.child("ownerReferences"),
    );
    let at = path.child("finalizers");
    for finalizer in list(object, "/metadata/finalizers")
        .iter()
        .filter_map(Value::as_str)
    {
        let messages = names::qualified_name(finalizer);
        errors.extend(
            messages
                .into_iter()
                .map(|m| FieldError::invalid(at, finalizer, m)),
        );
        if messages_ok(finalizer) && !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            let words = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(at, finalizer, words));
        }
    }
}

const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

fn messages_ok(finalizer: &str) -> bool {
    names::qualified_name(finalizer).is_empty()
}

/// Keys and values of labels (and of selectors that are maps).
pub(crate) fn labels(errors: &mut Vec<FieldError>, labels: Option<&Map<String, Value>>, path: &Path<'_>) {
    for (key, value) in labels.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        errors.extend(
            names::qualified_name(key)
                .into_iter()
                .map(|m| FieldError::invalid(path, key.as_str(), m)),
        );
        errors.extend(
            names::label_value(value)
                .into_iter()
                .map(|m| FieldError::invalid(path, value, m)),
        );
    }
}

fn annotations(errors: &mut Vec<FieldError>, all: Option<&Map<String, Value>>, path: &Path<'_>) {
    let mut size = 0;
    for (key, value) in all.into_iter().flatten() {
        let messages = names::qualified_name(&key.to_lowercase());
        errors.extend(
            messages
                .into_iter()
                .map(|m| FieldError::invalid(path, key.as_str(), m)),
        );
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long(path, MAX_ANNOTATIONS));
    }
}

fn owners(errors: &mut Vec<FieldError>, all: &[Value], path: &Path<'_>) {
    let mut controller: Option<String> = None;
    for (i, owner) in all.iter().enumerate() {
        let at = path.index(i);
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .is_empty()
            {
                errors.push(FieldError::required(at.child(field), "must not be empty"));
            }
        }
        if !flag(owner, "/controller") {
            continue;
        }
        let this = format!("{}/{}", text(owner, "/kind"), text(owner, "/name"));
        match &controller {
            Some(first) => {
                let words = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                errors.push(FieldError::invalid(path, Value::Array(all.to_vec()), words));
            }
            None => controller = Some(this),
        }
    }
}

/// What is wrong with a change of metadata.
pub fn validate_update(_kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("metadata");
    new_finalizers(&mut errors, new, old, &path);
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let get = |o: &Value| o.pointer("/metadata").and_then(|m| m.get(field)).cloned();
        if get(new) != get(old) {
            let value = get(new).unwrap_or_default();
            errors.push(FieldError::invalid(
                path.child(field),
                value,
                "field is immutable",
            ));
        }
    }
    common(&mut errors, new, &path);
    errors
}

/// Nothing may be put in the way of an object that is on its way out.
fn new_finalizers(errors: &mut Vec<FieldError>, new: &Value, old: &Value, path: &Path<'_>) {
    if old
        .pointer("/metadata/deletionTimestamp")
        .is_none_or(Value::is_null)
    {
        return;
    }
    let before = list(old, "/metadata/finalizers");
    let added: Vec<String> = list(new, "/metadata/finalizers")
        .iter()
        .filter(|f| !before.contains(f))
        .filter_map(|f| f.as_str().map(knode_api::goname::quote))
        .collect();
    if !added.is_empty() {
        let words = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        errors.push(FieldError::forbidden(path.child("finalizers"), words));
    }
}
