//! DaemonSets.
use knode_api::field::{FieldError, Path};
use knode_api::selector::LabelSelector;
use serde_json::Value;

use super::{Errors, immutable, label_selector, non_negative, pods};
use crate::value::{list, map, number, text};

pub(crate) fn create(set: &Value) -> Errors {
    let mut errors = Errors::new();
    spec(&mut errors, set);
    errors
}

pub(crate) fn update(new: &Value, old: &Value) -> Errors {
    let mut errors = create(new);
    let path = Path::new("spec");
    immutable(
        &mut errors,
        &path.child("selector"),
        new.pointer("/spec/selector"),
        old.pointer("/spec/selector"),
    );
    errors
}

fn spec(errors: &mut Errors, set: &Value) {
    let path = Path::new("spec");
    let template_path = path.child("template");
    let labels_path = template_path.child("metadata");
    let selector = set.pointer("/spec/selector").filter(|s| !s.is_null());
    if let Some(selector) = selector {
        label_selector(errors, selector, &path.child("selector"));
    }
    let labels = set.pointer("/spec/template/metadata/labels");
    let parsed = LabelSelector::from_object(selector).unwrap_or_else(|_| LabelSelector::nothing());
    if selector.is_some() && parsed.is_everything() {
        let words = "empty selector is invalid for daemonset";
        errors.push(FieldError::invalid(
            path.child("selector"),
            Value::Object(Default::default()),
            words,
        ));
    }
    if !parsed.is_everything() && !parsed.matches(labels.and_then(Value::as_object)) {
        let words = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(
            labels_path.child("labels"),
            labels.cloned().unwrap_or_default(),
            words,
        ));
    }
    template(errors, set, &template_path);
    non_negative(
        errors,
        &path.child("minReadySeconds"),
        set.pointer("/spec/minReadySeconds"),
    );
    strategy(errors, set, &path.child("updateStrategy"));
    non_negative(
        errors,
        &path.child("revisionHistoryLimit"),
        set.pointer("/spec/revisionHistoryLimit"),
    );
}

fn template(errors: &mut Errors, set: &Value, path: &Path<'_>) {
    let metadata = path.child("metadata");
    crate::rows::meta::labels(
        errors,
        map(set, "/spec/template/metadata/labels"),
        &metadata.child("labels"),
    );
    let at = path.child("spec");
    let spec = set.pointer("/spec/template/spec").unwrap_or(&Value::Null);
    pods::spec(errors, spec, &at);
    let policy = text(spec, "/restartPolicy");
    if policy != "Always" && ["OnFailure", "Never"].contains(&policy) {
        errors.push(FieldError::not_supported(
            at.child("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if number(spec, "/activeDeadlineSeconds") != 0 {
        let words = "activeDeadlineSeconds in DaemonSet is not Supported";
        errors.push(FieldError::forbidden(at.child("activeDeadlineSeconds"), words));
    }
    if !list(spec, "/ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden(
            at.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
}

fn strategy(errors: &mut Errors, set: &Value, path: &Path<'_>) {
    match text(set, "/spec/updateStrategy/type") {
        "OnDelete" => {}
        "RollingUpdate" => rolling(errors, set, &path.child("rollingUpdate")),
        other => {
            errors.push(FieldError::not_supported(
                path.child("type"),
                other,
                &["RollingUpdate", "OnDelete"],
            ));
        }
    }
}

fn rolling(errors: &mut Errors, set: &Value, path: &Path<'_>) {
    let get = |name: &str| {
        set.pointer("/spec/updateStrategy/rollingUpdate")
            .and_then(|r| r.get(name))
    };
    let mut sizes = Vec::new();
    for name in ["maxUnavailable", "maxSurge"] {
        let value = get(name).cloned().unwrap_or_default();
        let size = match &value {
            Value::String(s) => s.strip_suffix('%').and_then(|n| n.parse::<i64>().ok()),
            other => Some(other.as_i64().unwrap_or(0)),
        };
        match size {
            None => {
                let words = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                errors.push(FieldError::invalid(path.child(name), value, words));
            }
            Some(n) if n < 0 => {
                errors.push(FieldError::invalid(
                    path.child(name),
                    value,
                    "must be greater than or equal to 0",
                ));
            }
            Some(n) => sizes.push(n),
        }
    }
    match sizes.as_slice() {
        [0, 0] => errors.push(FieldError::invalid(
            path.child("maxUnavailable"),
            get("maxUnavailable").cloned().unwrap_or_default(),
            "cannot be 0 when maxSurge is 0",
        )),
        [unavailable, surge] if *unavailable > 0 && *surge > 0 => errors.push(FieldError::invalid(
            path.child("maxSurge"),
            get("maxSurge").cloned().unwrap_or_default(),
            "may not be set when maxUnavailable is non-zero",
        )),
        _ => {}
    }
}

/// A revision's data never changes.
pub(crate) fn revision_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    immutable(&mut errors, &Path::new("data"), new.get("data"), old.get("data"));
    non_negative(&mut errors, &Path::new("revision"), new.get("revision"));
    errors
}
