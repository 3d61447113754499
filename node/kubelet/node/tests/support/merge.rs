//! Strategic merge as far as a node's status needs it.

use serde_json::Value;

pub fn merge(target: &mut Value, patch: &Value) {
    let (Value::Object(fields), Value::Object(changes)) = (&mut *target, patch) else {
        *target = patch.clone();
        return;
    };
    for (key, change) in changes.iter().filter(|(key, _)| !key.starts_with('$')) {
        match change {
            Value::Null => {
                fields.remove(key);
            }
            Value::Array(list) if key == "conditions" => {
                merge_by_type(
                    fields
                        .entry(key.clone())
                        .or_insert_with(|| Value::Array(Vec::new())),
                    list,
                );
            }
            Value::Array(list) => {
                let kept = list
                    .iter()
                    .filter(|item| item.get("$patch").is_none())
                    .cloned()
                    .collect();
                fields.insert(key.clone(), Value::Array(kept));
            }
            Value::Object(_) => merge(
                fields
                    .entry(key.clone())
                    .or_insert_with(|| Value::Object(Default::default())),
                change,
            ),
            other => {
                fields.insert(key.clone(), other.clone());
            }
        }
    }
}

fn merge_by_type(target: &mut Value, changes: &[Value]) {
    let list = target.as_array_mut().expect("a list");
    for change in changes {
        match list.iter_mut().find(|item| item["type"] == change["type"]) {
            Some(item) => merge(item, change),
            None => list.push(change.clone()),
        }
    }
}
