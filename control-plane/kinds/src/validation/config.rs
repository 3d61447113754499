//! ConfigMaps and Secrets.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::Value;

use super::{Errors, IMMUTABLE};
use crate::value::{flag, map, text};

/// A ConfigMap or Secret may hold 1 MiB.
const MAX_BYTES: usize = 1024 * 1024;

pub(crate) fn config_map(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let mut size = keys(&mut errors, object, "data", |v| v.as_str().map_or(0, str::len));
    size += keys(&mut errors, object, "binaryData", decoded_len);
    for key in map(object, "/binaryData").into_iter().flatten().map(|(k, _)| k) {
        if map(object, "/data").is_some_and(|d| d.contains_key(key)) {
            let at = Path::new("data");
            let words = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(at.key(key), key.as_str(), words));
        }
    }
    if size > MAX_BYTES {
        errors.push(FieldError::too_long("", MAX_BYTES));
    }
    errors
}

pub(crate) fn secret(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let size = keys(&mut errors, object, "data", decoded_len);
    if size > MAX_BYTES {
        errors.push(FieldError::too_long("data", MAX_BYTES));
    }
    let needed: &[&str] = match text(object, "/type") {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    };
    let path = Path::new("data");
    for key in needed {
        if map(object, "/data").is_none_or(|d| !d.contains_key(*key)) {
            errors.push(FieldError::required(path.key(key), ""));
        }
    }
    errors
}

fn decoded_len(value: &Value) -> usize {
    value
        .as_str()
        .and_then(|s| STANDARD.decode(s).ok())
        .map_or(0, |b| b.len())
}

fn keys(errors: &mut Errors, object: &Value, field: &str, size: fn(&Value) -> usize) -> usize {
    let path = Path::new(field);
    let mut total = 0;
    for (key, value) in object.get(field).and_then(Value::as_object).into_iter().flatten() {
        let messages = names::config_map_key(key);
        errors.extend(
            messages
                .into_iter()
                .map(|m| FieldError::invalid(path.key(key), key.as_str(), m)),
        );
        total += size(value);
    }
    total
}

/// Once `immutable`, always so, and `frozen` fields stay as they are; a secret's type never changes.
pub(crate) fn update(new: &Value, old: &Value, frozen: &[&str]) -> Errors {
    let mut errors = Errors::new();
    if frozen.contains(&"type") && new.get("type") != old.get("type") {
        errors.push(FieldError::invalid(
            "type",
            new.get("type").cloned().unwrap_or_default(),
            IMMUTABLE,
        ));
    }
    if flag(old, "/immutable") {
        let words = "field is immutable when `immutable` is set";
        if !flag(new, "/immutable") {
            errors.push(FieldError::forbidden("immutable", words));
        }
        for field in frozen
            .iter()
            .filter(|f| **f != "type" && new.get(**f) != old.get(**f))
        {
            errors.push(FieldError::forbidden(field, words));
        }
    }
    errors.extend(if frozen.contains(&"type") {
        secret(new)
    } else {
        config_map(new)
    });
    errors
}
