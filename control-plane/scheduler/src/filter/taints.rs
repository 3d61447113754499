//! Taints and tolerations.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::model::{Node, Pod};

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The first taint that keeps the pod away.
pub(super) fn untolerated<'a>(pod: &Pod, node: &'a Node) -> Option<&'a Taint> {
    let keeps_away = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    node.taints
        .iter()
        .filter(keeps_away)
        .find(|taint| !tolerates(pod, taint))
}

/// How many taints would rather not have the pod.
pub(crate) fn untolerated_preferences(pod: &Pod, node: &Node) -> usize {
    let prefers = |taint: &&Taint| taint.effect == "PreferNoSchedule" && !tolerates(pod, taint);
    node.taints.iter().filter(prefers).count()
}

/// A pod that bears the taint of cordoned nodes may go there.
pub(super) fn tolerates_unschedulable(pod: &Pod) -> bool {
    let taint = Taint {
        key: UNSCHEDULABLE.to_owned(),
        effect: "NoSchedule".to_owned(),
        value: None,
        time_added: None,
    };
    tolerates(pod, &taint)
}

fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    pod.tolerations.iter().any(|toleration| bears(toleration, taint))
}

/// An empty effect means any, an empty key with `Exists` means any.
fn bears(toleration: &Toleration, taint: &Taint) -> bool {
    let set = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    if set(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    if set(&toleration.key).is_some_and(|key| key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            let value = |field: &Option<String>| field.clone().unwrap_or_default();
            set(&toleration.key).is_some() && value(&toleration.value) == value(&taint.value)
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn bears_it(toleration: Value) -> bool {
        let taint = Taint {
            key: "k".into(),
            value: Some("v".into()),
            effect: "NoSchedule".into(),
            time_added: None,
        };
        bears(&serde_json::from_value(toleration).unwrap(), &taint)
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
        ] {
            assert!(!bears_it(bad.clone()), "{bad}");
        }
    }
}
