//! Putting documents over one another.

use serde_json::{Map, Value};

/// Lays `patch` over `base` as JSON merge patches do (RFC 7386), which is how upstream takes drop-ins: objects are
/// merged, lists and everything else replaced, null removes.
pub(crate) fn merge(base: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                base.remove(&name);
            }
            Value::Object(patch) => {
                let below = base.entry(name).or_insert_with(|| Value::Object(Map::new()));
                if !below.is_object() {
                    *below = Value::Object(Map::new());
                }
                if let Value::Object(below) = below {
                    merge(below, patch);
                }
            }
            other => {
                base.insert(name, other);
            }
        }
    }
}

/// The value at a path with dots.
pub(crate) fn get<'a>(document: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut names = path.split('.');
    let first = document.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

/// Sets the value at a path with dots.
pub(crate) fn set(document: &mut Map<String, Value>, path: &str, value: Value) {
    let mut patch = value;
    for name in path.rsplit('.') {
        patch = Value::Object(Map::from_iter([(name.to_owned(), patch)]));
    }
    // A map stands for itself as a whole: what a file says there goes. None lies deeper than the first level.
    if !path.contains('.') {
        document.remove(path);
    }
    if let Value::Object(patch) = patch {
        merge(document, patch);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn objects_are_merged_and_lists_replaced() {
        let mut base = object(json!({"a": {"b": 1, "c": 2}, "l": [1, 2], "x": 1}));
        merge(
            &mut base,
            object(json!({"a": {"b": 3, "d": {"e": 4}}, "l": [3], "x": null})),
        );
        assert_eq!(
            Value::Object(base),
            json!({"a": {"b": 3, "c": 2, "d": {"e": 4}}, "l": [3]})
        );
    }

    #[test]
    fn a_flag_replaces_a_map_as_a_whole() {
        let mut base = object(json!({"evictionHard": {"memory.available": "1Gi"}, "a": {"b": {"c": 1}}}));
        set(&mut base, "evictionHard", json!({"nodefs.available": "5%"}));
        set(&mut base, "a.b.d", json!(2));
        assert_eq!(
            Value::Object(base.clone()),
            json!({"evictionHard": {"nodefs.available": "5%"}, "a": {"b": {"c": 1, "d": 2}}})
        );
        assert_eq!(get(&base, "a.b.d"), Some(&json!(2)));
        assert_eq!(get(&base, "a.x.d"), None);
    }
}
