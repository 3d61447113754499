//! Volumes of a pod.
use std::collections::BTreeSet;

use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::Value;

use super::{Errors, containers, name_rule, required_text};
use crate::value::{list, number, text};

/// Fields of a pod that a file may show.
const FILE_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Checks all and returns the names there are.
pub(crate) fn all<'a>(errors: &mut Errors, spec: &'a Value, path: &Path<'_>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (i, volume) in list(spec, "/volumes").iter().enumerate() {
        let at = path.index(i);
        let before = errors.len();
        source(errors, volume, &at);
        let name = text(volume, "/name");
        if name.is_empty() {
            errors.push(FieldError::required(at.child("name"), ""));
        } else {
            name_rule(errors, &at.child("name"), name, names::dns1123_label);
            if seen.contains(name) {
                errors.push(FieldError::duplicate(at.child("name"), name));
            }
        }
        if errors.len() == before {
            seen.insert(name);
        }
    }
    seen
}

fn source(errors: &mut Errors, volume: &Value, at: &Path<'_>) {
    let sources = volume
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(k, v)| *k != "name" && v.is_object());
    for (i, (kind, body)) in sources.clone().enumerate() {
        let at = at.child(kind);
        if i > 0 {
            errors.push(FieldError::forbidden(
                at,
                "may not specify more than 1 volume type",
            ));
        } else {
            self::kind(errors, kind, body, &at);
        }
    }
    if sources.count() == 0 {
        errors.push(FieldError::required(at, "must specify a volume type"));
    }
}

fn kind(errors: &mut Errors, kind: &str, body: &Value, at: &Path<'_>) {
    match kind {
        "hostPath" => host_path(errors, body, at),
        "secret" => {
            required_text(errors, body, at, "secretName");
            mode(errors, body, at);
            items(errors, body, at);
        }
        "configMap" => {
            required_text(errors, body, at, "name");
            mode(errors, body, at);
            items(errors, body, at);
        }
        "downwardAPI" => {
            mode(errors, body, at);
            downward(errors, body, at);
        }
        "projected" => projected(errors, body, at),
        "persistentVolumeClaim" => required_text(errors, body, at, "claimName"),
        "nfs" => {
            required_text(errors, body, at, "server");
            required_text(errors, body, at, "path");
        }
        "csi" => required_text(errors, body, at, "driver"),
        _ => {}
    }
}

fn host_path(errors: &mut Errors, body: &Value, at: &Path<'_>) {
    let path = text(body, "/path");
    if path.is_empty() {
        errors.push(FieldError::required(at.child("path"), ""));
    } else if path.split('/').any(|p| p == "..") {
        errors.push(FieldError::invalid(
            at.child("path"),
            path,
            "must not contain '..'",
        ));
    }
    let kinds = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    let kind = text(body, "/type");
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported(at.child("type"), kind, &kinds));
    }
}

fn mode(errors: &mut Errors, body: &Value, at: &Path<'_>) {
    if let Some(n) = body
        .get("defaultMode")
        .and_then(Value::as_i64)
        .filter(|n| !(0..=0o777).contains(n))
    {
        let words = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(at.child("defaultMode"), n, words));
    }
}

/// `items` of a secret or config map: a key, and a path below the volume.
fn items(errors: &mut Errors, body: &Value, at: &Path<'_>) {
    let path = at.child("items");
    for (i, item) in list(body, "/items").iter().enumerate() {
        let at = path.index(i);
        required_text(errors, item, &at, "key");
        file_path(errors, item, &at);
        item_mode(errors, item, &at);
    }
}

fn item_mode(errors: &mut Errors, item: &Value, at: &Path<'_>) {
    let mode = number(item, "/mode");
    if !(0..=0o777).contains(&mode) {
        let words = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(at.child("mode"), mode, words));
    }
}

fn file_path(errors: &mut Errors, item: &Value, at: &Path<'_>) {
    let value = text(item, "/path");
    if value.is_empty() {
        errors.push(FieldError::required(at.child("path"), ""));
        return;
    }
    containers::relative_path(errors, &at.child("path"), value);
    if value.starts_with("..") && !value.starts_with("../") && value != ".." {
        errors.push(FieldError::invalid(
            at.child("path"),
            value,
            "must not start with '..'",
        ));
    }
}

fn downward(errors: &mut Errors, body: &Value, at: &Path<'_>) {
    let path = at.child("items");
    for (i, item) in list(body, "/items").iter().enumerate() {
        let at = path.index(i);
        file_path(errors, item, &at);
        match (item.get("fieldRef"), item.get("resourceFieldRef")) {
            (Some(field), None) => {
                containers::field_path(errors, field, &at.child("fieldRef"), &FILE_FIELDS);
            }
            (None, Some(resource)) => {
                let at = at.child("resourceFieldRef");
                required_text(errors, resource, &at, "containerName");
                required_text(errors, resource, &at, "resource");
            }
            (Some(_), Some(_)) => {
                let words = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(at, "resource", words));
            }
            (None, None) => {
                errors.push(FieldError::required(
                    at,
                    "one of fieldRef and resourceFieldRef is required",
                ));
            }
        }
        item_mode(errors, item, &at);
    }
}

fn projected(errors: &mut Errors, body: &Value, at: &Path<'_>) {
    mode(errors, body, at);
    let path = at.child("sources");
    for (i, source) in list(body, "/sources").iter().enumerate() {
        let at = path.index(i);
        let kinds = source
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, v)| v.is_object());
        for (n, (kind, body)) in kinds.clone().enumerate() {
            let at = at.child(kind);
            if n > 0 {
                errors.push(FieldError::forbidden(
                    at,
                    "may not specify more than 1 volume type",
                ));
                continue;
            }
            match kind.as_str() {
                "secret" | "configMap" => {
                    required_text(errors, body, &at, "name");
                    items(errors, body, &at);
                }
                "downwardAPI" => downward(errors, body, &at),
                "serviceAccountToken" => token(errors, body, &at),
                _ => {}
            }
        }
        if kinds.count() == 0 {
            errors.push(FieldError::required(at, "must specify a volume type"));
        }
    }
}

fn token(errors: &mut Errors, body: &Value, at: &Path<'_>) {
    let seconds = number(body, "/expirationSeconds");
    let path = at.child("expirationSeconds");
    if seconds < 600 {
        errors.push(FieldError::invalid(
            path,
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    } else if seconds > 1 << 32 {
        errors.push(FieldError::invalid(
            path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    required_text(errors, body, at, "path");
}
