//! The strategic merge patch from one status to another: only what differs.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// Lists of a status that are merged by a key; all others are replaced as a whole.
const MERGED: [(&str, &str); 2] = [("conditions", "type"), ("podIPs", "ip")];

/// The body that turns `old` into `new` in the pod with this uid; `None` if they are the same.
pub fn status_patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old, new) = (to_map(old), to_map(new));
    let changes = differences(&old, &new);
    if changes.is_empty() {
        return None;
    }
    Some(json!({"metadata": {"uid": uid}, "status": changes}))
}

fn to_map(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        // A status consists of strings, numbers, lists and maps with string keys: it is always an object.
        _ => Map::new(),
    }
}

fn differences(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let mut changes = Map::new();
    for (name, value) in new {
        let before = old.get(name);
        if before == Some(value) {
            continue;
        }
        let key = MERGED.iter().find(|(list, _)| list == name).map(|(_, key)| *key);
        match (before, value, key) {
            (before, Value::Array(items), Some(key)) => {
                let before = before
                    .and_then(Value::as_array)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                merge_list(name, key, before, items, &mut changes);
            }
            (Some(Value::Object(before)), Value::Object(after), _) => {
                changes.insert(name.clone(), Value::Object(differences(before, after)));
            }
            _ => drop(changes.insert(name.clone(), value.clone())),
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        changes.insert(name.clone(), Value::Null);
    }
    changes
}

/// Changed items with their key, removed ones with a directive, and the order they are to have.
fn merge_list(name: &str, key: &str, old: &[Value], new: &[Value], changes: &mut Map<String, Value>) {
    let find =
        |list: &[Value], wanted: &Value| list.iter().find(|item| item.get(key) == wanted.get(key)).cloned();
    let mut items = Vec::new();
    for item in new {
        match (find(old, item), item) {
            (Some(Value::Object(before)), Value::Object(after)) => {
                let mut change = differences(&before, after);
                if !change.is_empty() {
                    change.insert(key.to_owned(), item.get(key).cloned().unwrap_or_default());
                    items.push(Value::Object(change));
                }
            }
            _ => items.push(item.clone()),
        }
    }
    for item in old.iter().filter(|item| find(new, item).is_none()) {
        items.push(json!({"$patch": "delete", key: item.get(key)}));
    }
    if items.is_empty() {
        return;
    }
    if !old.is_empty() {
        let order: Vec<Value> = new.iter().map(|item| json!({key: item.get(key)})).collect();
        changes.insert(format!("$setElementOrder/{name}"), Value::Array(order));
    }
    changes.insert(name.to_owned(), Value::Array(items));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn equal_statuses_need_no_patch() {
        let one = status(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
        assert_eq!(status_patch("u", &one, &one), None);
    }

    #[test]
    fn only_what_changed_is_sent_with_keys_and_order() {
        let old = status(json!({"phase": "Pending", "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"},
            {"type": "PodScheduled", "status": "True"},
        ]}));
        let new = status(json!({"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "PodScheduled", "status": "True"},
        ]}));
        let patch = status_patch("u", &old, &new).unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running",
                "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "PodScheduled"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}],
            }})
        );
    }

    #[test]
    fn another_address_replaces_the_old_one() {
        let old = status(json!({"podIPs": [{"ip": "10.0.0.1"}]}));
        let new = status(json!({"podIPs": [{"ip": "10.0.0.2"}]}));
        let patch = status_patch("u", &old, &new).unwrap();
        assert_eq!(
            patch["status"]["podIPs"],
            json!([{"ip": "10.0.0.2"}, {"$patch": "delete", "ip": "10.0.0.1"}])
        );
    }
}
