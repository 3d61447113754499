//! `clusterIP` and `clusterIPs` together (upstream: `normalizeClusterIPs`).
use serde_json::{Value, json};

use crate::value::{keep, list, text};

/// Lets the one address and the list follow each other where a client knows only one of them. `old` is null for a
/// new service. Whoever gives the list gives the one too.
pub(super) fn one_and_all(spec: &mut Value, old: &Value) {
    let (now, before) = (text(spec, "/clusterIP").to_owned(), text(old, "/clusterIP"));
    if old.is_null() {
        if !now.is_empty() && list(spec, "/clusterIPs").is_empty() {
            spec["clusterIPs"] = json!([now]);
        }
        return;
    }
    if now == before {
        if list(spec, "/clusterIPs").is_empty() {
            keep(spec, old, "clusterIPs");
        }
        return;
    }
    if list(spec, "/clusterIPs") != list(old, "/clusterIPs") {
        return;
    }
    match (now.as_str(), spec.as_object_mut()) {
        ("", Some(fields)) => drop(fields.remove("clusterIPs")),
        _ => spec["clusterIPs"] = json!([now]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(new: Value, old: &Value) -> Value {
        let mut new = new;
        one_and_all(&mut new, old);
        new
    }

    #[test]
    fn a_new_services_address_is_its_list() {
        let both = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]});
        assert_eq!(after(json!({"clusterIP": "10.0.0.1"}), &Value::Null), both);
        let list_alone = json!({"clusterIPs": ["10.0.0.1"]});
        assert_eq!(after(list_alone.clone(), &Value::Null), list_alone);
    }

    #[test]
    fn a_client_that_knows_one_address_only_keeps_the_second() {
        let old = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]});
        assert_eq!(after(json!({"clusterIP": "10.0.0.1"}), &old), old);
    }

    #[test]
    fn another_address_is_the_whole_list() {
        let old = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]});
        let new = json!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.1"]});
        let whole = json!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]});
        assert_eq!(after(new, &old), whole);
        let cleared = json!({"clusterIP": "", "clusterIPs": ["10.0.0.1"]});
        assert_eq!(after(cleared, &old), json!({"clusterIP": ""}));
    }
}
