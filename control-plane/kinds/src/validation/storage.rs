//! Volumes, claims, their classes and attachments.
use knode_api::field::{FieldError, Path};
use knode_api::names;
use knode_api::quantity::Quantity;
use serde_json::Value;

use super::{Errors, immutable, label_selector, name_rule, one_of, required_text};
use crate::value::{list, map, text};

const MODES: [&str; 4] = [
    "ReadWriteOnce",
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOncePod",
];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

/// What a volume's specification holds beside its source.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn is_source(key: &str) -> bool {
    !NOT_SOURCES.contains(&key)
}

pub(crate) fn volume(volume: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let spec = &volume["spec"];
    access_modes(&mut errors, spec, &path);
    let capacity = path.child("capacity");
    match map(spec, "/capacity") {
        None => errors.push(FieldError::required(capacity, "")),
        Some(all) => {
            if all.len() != 1 || !all.contains_key("storage") {
                let given = Value::Object(all.clone());
                errors.push(FieldError::not_supported(
                    capacity,
                    given.to_string(),
                    &["storage"],
                ));
            }
            for (key, value) in all {
                positive(&mut errors, &capacity.key(key), value);
            }
        }
    }
    let policies = ["Delete", "Recycle", "Retain"];
    one_of(
        &mut errors,
        spec,
        &path,
        "persistentVolumeReclaimPolicy",
        &policies,
        false,
    );
    one_of(&mut errors, spec, &path, "volumeMode", &VOLUME_MODES, false);
    let class = text(spec, "/storageClassName");
    if !class.is_empty() {
        name_rule(
            &mut errors,
            &path.child("storageClassName"),
            class,
            names::dns1123_subdomain,
        );
    }
    source(&mut errors, spec, &path);
    errors
}

fn source(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let sources: Vec<(&String, &Value)> = spec
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, body)| is_source(key) && body.is_object())
        .collect();
    if sources.is_empty() {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    for (index, (kind, body)) in sources.into_iter().enumerate() {
        let at = path.child(kind);
        if index > 0 {
            errors.push(FieldError::forbidden(
                at,
                "may not specify more than 1 volume type",
            ));
            continue;
        }
        match kind.as_str() {
            "hostPath" => {
                required_text(errors, body, &at, "path");
                no_steps_up(errors, body, &at);
            }
            "local" => {
                required_text(errors, body, &at, "path");
                no_steps_up(errors, body, &at);
                if spec.pointer("/nodeAffinity/required").is_none() {
                    let words = "Local volume requires node affinity";
                    errors.push(FieldError::required(path.child("nodeAffinity"), words));
                }
            }
            "nfs" => {
                required_text(errors, body, &at, "server");
                required_text(errors, body, &at, "path");
            }
            "csi" => {
                required_text(errors, body, &at, "driver");
                required_text(errors, body, &at, "volumeHandle");
            }
            _ => {}
        }
    }
}

fn no_steps_up(errors: &mut Errors, body: &Value, at: &Path<'_>) {
    let path = text(body, "/path");
    if path.split('/').any(|step| step == "..") {
        errors.push(FieldError::invalid(
            at.child("path"),
            path,
            "must not contain '..'",
        ));
    }
}

fn access_modes(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let at = path.child("accessModes");
    let modes = list(spec, "/accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required(at, "at least 1 access mode is required"));
    }
    for mode in modes {
        let mode = mode.as_str().unwrap_or_default();
        if !MODES.contains(&mode) {
            errors.push(FieldError::not_supported(at, mode, &MODES));
        }
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        let words = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(at, words));
    }
}

fn positive(errors: &mut Errors, at: &Path<'_>, value: &Value) {
    let given = value.as_str().unwrap_or_default();
    let parsed = Quantity::parse(given).ok();
    if parsed.is_none_or(|amount| amount.is_zero() || amount.is_negative()) {
        errors.push(FieldError::invalid(at, given, "must be greater than zero"));
    }
}

pub(crate) fn volume_update(new: &Value, old: &Value) -> Errors {
    let mut errors = volume(new);
    let path = Path::new("spec");
    let (spec, before) = (&new["spec"], &old["spec"]);
    let sources = |spec: &Value| -> Vec<(String, Value)> {
        let all = spec.as_object().into_iter().flatten();
        all.filter(|(key, _)| is_source(key))
            .map(|(key, body)| (key.clone(), without_expand_secret(key, body)))
            .collect()
    };
    if sources(spec) != sources(before) {
        let words = "spec.persistentvolumesource is immutable after creation";
        errors.push(FieldError::forbidden(path.child("persistentvolumesource"), words));
    }
    immutable(
        &mut errors,
        &path.child("volumeMode"),
        spec.get("volumeMode"),
        before.get("volumeMode"),
    );
    if before.get("nodeAffinity").is_some() {
        let at = path.child("nodeAffinity");
        immutable(
            &mut errors,
            &at,
            spec.get("nodeAffinity"),
            before.get("nodeAffinity"),
        );
    }
    errors
}

/// The secret for expansion may be set later.
fn without_expand_secret(kind: &str, body: &Value) -> Value {
    let mut body = body.clone();
    if kind == "csi"
        && let Some(fields) = body.as_object_mut()
    {
        for name in ["controllerExpandSecretRef", "nodeExpandSecretRef"] {
            fields.remove(name);
        }
    }
    body
}

pub(crate) fn claim(claim: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let spec = &claim["spec"];
    access_modes(&mut errors, spec, &path);
    if let Some(selector) = spec.get("selector") {
        label_selector(&mut errors, selector, &path.child("selector"));
    }
    let resources = path.child("resources");
    match spec.pointer("/resources/requests/storage") {
        None => errors.push(FieldError::required(resources.key("storage"), "")),
        Some(amount) => positive(&mut errors, &resources.child("requests").key("storage"), amount),
    }
    let class = text(spec, "/storageClassName");
    if !class.is_empty() {
        name_rule(
            &mut errors,
            &path.child("storageClassName"),
            class,
            names::dns1123_subdomain,
        );
    }
    one_of(&mut errors, spec, &path, "volumeMode", &VOLUME_MODES, false);
    errors
}

pub(crate) fn claim_update(new: &Value, old: &Value) -> Errors {
    let mut errors = claim(new);
    let path = Path::new("spec");
    let (mut spec, mut before) = (new["spec"].clone(), old["spec"].clone());
    let (wanted, had) = (request(&spec), request(&before));
    let bound = text(old, "/status/phase") == "Bound";
    if !bound && wanted != had {
        let words = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden(path, words));
    }
    if bound && wanted < had && wanted <= status_size(old) {
        let resources = path.child("resources");
        let requests = resources.child("requests");
        let words = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden(requests.key("storage"), words));
    }
    for spec in [&mut spec, &mut before] {
        for name in ["resources", "volumeAttributesClassName"] {
            if let Some(fields) = spec.as_object_mut() {
                fields.remove(name);
            }
        }
    }
    // A binder fills in the volume; a default class is given to claims without any.
    for name in ["volumeName", "storageClassName"] {
        if before.get(name).is_none()
            && let Some(fields) = spec.as_object_mut()
        {
            fields.remove(name);
        }
    }
    if spec != before {
        let words = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden(path, words));
    }
    errors
}

fn bytes(amount: Option<&Value>) -> i64 {
    let text = amount.and_then(Value::as_str).unwrap_or_default();
    Quantity::parse(text).map_or(0, |amount| amount.value())
}

fn request(spec: &Value) -> i64 {
    bytes(spec.pointer("/resources/requests/storage"))
}

fn status_size(claim: &Value) -> i64 {
    bytes(claim.pointer("/status/capacity/storage"))
}

pub(crate) fn class(class: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("provisioner");
    match text(class, "/provisioner") {
        "" => errors.push(FieldError::required(path, "")),
        name => name_rule(&mut errors, &path, &name.to_lowercase(), names::qualified_name),
    }
    let root = |name: &'static str| Path::new(name);
    let reclaim = text(class, "/reclaimPolicy");
    if !["Delete", "Retain"].contains(&reclaim) {
        errors.push(FieldError::not_supported(
            root("reclaimPolicy"),
            reclaim,
            &["Delete", "Retain"],
        ));
    }
    let binding = text(class, "/volumeBindingMode");
    let bindings = ["Immediate", "WaitForFirstConsumer"];
    if !bindings.contains(&binding) {
        errors.push(FieldError::not_supported(
            root("volumeBindingMode"),
            binding,
            &bindings,
        ));
    }
    errors
}

pub(crate) fn class_update(new: &Value, old: &Value) -> Errors {
    let mut errors = class(new);
    for name in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        if new.get(name) != old.get(name) {
            let words = match name {
                "parameters" => "updates to parameters are forbidden.",
                "provisioner" => "updates to provisioner are forbidden.",
                "reclaimPolicy" => "updates to reclaimPolicy are forbidden.",
                _ => super::IMMUTABLE,
            };
            errors.push(FieldError::forbidden(Path::new(name), words));
        }
    }
    errors
}

pub(crate) fn attachment(attachment: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let spec = &attachment["spec"];
    required_text(&mut errors, spec, &path, "attacher");
    required_text(&mut errors, spec, &path, "nodeName");
    let source = path.child("source");
    let (volume, inline) = (
        text(spec, "/source/persistentVolumeName"),
        spec.pointer("/source/inlineVolumeSpec"),
    );
    if volume.is_empty() && inline.is_none() {
        errors.push(FieldError::required(
            source,
            "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ));
    } else if !volume.is_empty() && inline.is_some() {
        errors.push(FieldError::forbidden(
            source,
            "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ));
    }
    errors
}

pub(crate) fn attachment_update(new: &Value, old: &Value) -> Errors {
    let mut errors = attachment(new);
    immutable(&mut errors, &Path::new("spec"), new.get("spec"), old.get("spec"));
    errors
}
