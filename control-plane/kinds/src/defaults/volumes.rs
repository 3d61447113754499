//! Volumes.
use serde_json::{Value, json};

use crate::value::{elements, set_default};

/// Files of secrets and the like: 0644.
const FILE_MODE: i64 = 0o644;

/// Fills in one volume; without any source it is an empty directory.
pub(crate) fn volume(volume: &mut Value) {
    let has_source = volume.as_object().is_some_and(|v| v.keys().any(|k| k != "name"));
    if !has_source {
        volume["emptyDir"] = json!({});
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source).filter(|s| s.is_object()) {
            set_default(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(path) = volume.get_mut("hostPath").filter(|p| p.is_object()) {
        set_default(path, "type", "");
    }
    if let Some(api) = volume.get_mut("downwardAPI") {
        downward_items(api);
    }
    if let Some(projected) = volume.get_mut("projected") {
        for source in elements(projected, "sources") {
            projection(source);
        }
    }
    if let Some(image) = volume.get_mut("image").filter(|i| i.is_object()) {
        let reference = image.get("reference").and_then(Value::as_str).unwrap_or_default();
        let policy = super::image::pull_policy(reference);
        set_default(image, "pullPolicy", policy);
    }
}

fn projection(source: &mut Value) {
    if let Some(token) = source.get_mut("serviceAccountToken").filter(|t| t.is_object()) {
        set_default(token, "expirationSeconds", 3600);
    }
    if let Some(api) = source.get_mut("downwardAPI") {
        downward_items(api);
    }
}

fn downward_items(api: &mut Value) {
    for item in elements(api, "items") {
        if let Some(field) = item.get_mut("fieldRef").filter(|f| f.is_object()) {
            set_default(field, "apiVersion", "v1");
        }
    }
}
