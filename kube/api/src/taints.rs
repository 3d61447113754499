//! Taints of nodes and what bears them.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether the toleration matches the taint (core/v1 `ToleratesTaint`): an empty effect means any, an empty key with
/// `Exists` means any, and an operator that is not known matches nothing.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let other = |field: &Option<String>, of_taint: &str| {
        let given = field.as_deref().unwrap_or_default();
        !given.is_empty() && given != of_taint
    };
    if other(&toleration.effect, &taint.effect) || other(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => text(&toleration.value) == text(&taint.value),
        Some("Exists") => true,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bears_it(toleration: Value) -> bool {
        let taint = Taint {
            key: "k".into(),
            value: Some("v".into()),
            effect: "NoSchedule".into(),
            time_added: None,
        };
        tolerates(&serde_json::from_value(toleration).unwrap(), &taint)
    }

    #[test]
    fn tolerations_match_by_key_value_and_effect() {
        for good in [
            json!({"operator": "Exists"}),
            json!({"key": "k", "operator": "Exists"}),
            json!({"key": "k", "value": "v"}),
            json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}),
        ] {
            assert!(bears_it(good.clone()), "{good}");
        }
        for bad in [
            json!({}),
            json!({"key": "k"}),
            json!({"key": "other", "operator": "Exists"}),
            json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}),
            json!({"key": "k", "value": "w"}),
            json!({"key": "k", "operator": "Near", "value": "v"}),
        ] {
            assert!(!bears_it(bad.clone()), "{bad}");
        }
    }
}
