//! The strategic merge patch from one node status to another, pure.

use k8s_openapi::api::core::v1::NodeStatus;
use serde_json::{Map, Value, json};

/// The body of `PATCH /api/v1/nodes/<name>/status`, or nothing if nothing changed. Conditions are merged by their
/// type and carry `$setElementOrder/conditions`; addresses are replaced as a whole (upstream's `PatchNodeStatus`);
/// other lists are atomic.
pub fn status_patch(old: &NodeStatus, new: &NodeStatus) -> Option<Value> {
    let (old, new) = (to_object(old), to_object(new));
    let mut patch = Map::new();
    for (field, value) in &new {
        let before = old.get(field);
        if before == Some(value) {
            continue;
        }
        match field.as_str() {
            "conditions" => patch_conditions(before, value, &mut patch),
            "addresses" => {
                patch.insert(field.clone(), replaced_list(value));
            }
            _ => {
                patch.insert(field.clone(), difference(before, value));
            }
        }
    }
    for field in old.keys().filter(|field| !new.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    (!patch.is_empty()).then(|| json!({"status": patch}))
}

fn to_object(status: &NodeStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(object)) => object,
        // A node status is always an object of JSON values.
        _ => Map::new(),
    }
}

fn patch_conditions(old: Option<&Value>, new: &Value, patch: &mut Map<String, Value>) {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let (old, new) = (list(old), list(Some(new)));
    let same_type = |one: &Value, other: &Value| one["type"] == other["type"];
    let mut changed: Vec<Value> = Vec::new();
    for condition in &new {
        let before = old.iter().find(|before| same_type(before, condition));
        if before == Some(condition) {
            continue;
        }
        let mut entry = difference(before, condition);
        entry["type"] = condition["type"].clone();
        changed.push(entry);
    }
    for gone in old
        .iter()
        .filter(|before| !new.iter().any(|condition| same_type(before, condition)))
    {
        changed.push(json!({"$patch": "delete", "type": gone["type"]}));
    }
    let order: Vec<Value> = new
        .iter()
        .map(|condition| json!({"type": condition["type"]}))
        .collect();
    patch.insert("$setElementOrder/conditions".to_owned(), Value::Array(order));
    patch.insert("conditions".to_owned(), Value::Array(changed));
}

fn replaced_list(value: &Value) -> Value {
    let mut list = value.as_array().cloned().unwrap_or_default();
    list.push(json!({"$patch": "replace"}));
    Value::Array(list)
}

/// Objects: fields that differ, null for those that are gone. Anything else: the new value.
fn difference(old: Option<&Value>, new: &Value) -> Value {
    let (Some(Value::Object(before)), Value::Object(after)) = (old, new) else {
        return new.clone();
    };
    let mut changed = Map::new();
    for (key, value) in after {
        if before.get(key) != Some(value) {
            changed.insert(key.clone(), difference(before.get(key), value));
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        changed.insert(key.clone(), Value::Null);
    }
    Value::Object(changed)
}
