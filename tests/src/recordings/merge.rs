//! Strategic merge patches as far as pod statuses have them, to follow a recorded status from patch to patch.

use serde_json::{Map, Value};

/// The key by which the entries of a status's list are merged; lists without one are replaced.
fn merge_key(field: &str) -> Option<&'static str> {
    match field {
        "conditions" => Some("type"),
        "hostIPs" | "podIPs" => Some("ip"),
        _ => None,
    }
}

/// Applies a patch.
pub fn apply(target: &mut Value, patch: &Value) {
    let (Some(patch), true) = (patch.as_object(), target.is_object()) else {
        *target = without_nulls(patch);
        return;
    };
    for (field, value) in patch.iter().filter(|(field, _)| !field.starts_with('$')) {
        let Some(map) = target.as_object_mut() else { return };
        match (value, merge_key(field)) {
            (Value::Null, _) => {
                map.remove(field);
            }
            (Value::Array(entries), Some(key)) => merge_list(map, field, key, entries),
            _ => apply(map.entry(field.clone()).or_insert(Value::Null), value),
        }
    }
    for (field, order) in patch {
        if let (Some(field), Some(order)) = (field.strip_prefix("$setElementOrder/"), order.as_array()) {
            sort(&mut target[field], merge_key(field).unwrap_or_default(), order);
        }
    }
}

fn merge_list(map: &mut Map<String, Value>, field: &str, key: &str, entries: &[Value]) {
    let list = map.entry(field).or_insert_with(|| Value::Array(Vec::new()));
    let Some(list) = list.as_array_mut() else { return };
    for entry in entries {
        let found = list.iter().position(|old| old[key] == entry[key]);
        match (found, entry["$patch"] == "delete") {
            (Some(index), true) => {
                list.remove(index);
            }
            (Some(index), false) => apply(&mut list[index], entry),
            (None, true) => {}
            (None, false) => list.push(without_nulls(entry)),
        }
    }
}

fn sort(list: &mut Value, key: &str, order: &[Value]) {
    let place = |entry: &Value| {
        let same = |wanted: &Value| wanted[key] == entry[key];
        order.iter().position(same).unwrap_or(order.len())
    };
    if let Some(list) = list.as_array_mut() {
        list.sort_by_key(place);
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map
                .iter()
                .filter(|(field, value)| !value.is_null() && !field.starts_with('$'));
            kept.map(|(field, value)| (field.clone(), without_nulls(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_merge_by_type_in_the_order_told() {
        let mut status =
            json!({"conditions": [{"type": "A", "status": "True", "reason": "x"}], "phase": "Pending"});
        apply(
            &mut status,
            &json!({"$setElementOrder/conditions": [{"type": "B"}, {"type": "A"}],
                "conditions": [{"type": "A", "reason": null}, {"type": "B", "status": "False"}], "phase": "Running"}),
        );
        let wanted = json!({"conditions": [{"type": "B", "status": "False"}, {"type": "A", "status": "True"}], "phase": "Running"});
        assert_eq!(status, wanted);
    }

    #[test]
    fn other_lists_are_replaced() {
        let mut status = json!({"containerStatuses": [{"name": "a"}, {"name": "b"}]});
        apply(
            &mut status,
            &json!({"containerStatuses": [{"name": "c", "state": {}}]}),
        );
        assert_eq!(status, json!({"containerStatuses": [{"name": "c", "state": {}}]}));
    }
}
