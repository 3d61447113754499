//! The taints that follow from a node's conditions, and what they do to pods; pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knode_api::taints::tolerates;

use super::health::condition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Condition, the status that taints, the taint's key.
const BY_CONDITION: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

fn is_managed(taint: &Taint) -> bool {
    let by_condition = BY_CONDITION.iter().any(|(_, _, key)| *key == taint.key);
    match taint.effect.as_str() {
        "NoSchedule" => by_condition || taint.key == UNSCHEDULABLE,
        "NoExecute" => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    }
}

/// The taints that the node should have, others' kept; nothing if it has them.
pub(super) fn wanted(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let spec = node.spec.clone().unwrap_or_default();
    let before = spec.taints.unwrap_or_default();
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for (kind, status, key) in BY_CONDITION {
        if condition(node, kind).is_some_and(|c| c.status == *status) {
            keys.push((key, "NoSchedule"));
            if *kind == "Ready" {
                keys.push((key, "NoExecute"));
            }
        }
    }
    if condition(node, "Ready").is_none() {
        // A node that has never said how it is.
        keys.push((NOT_READY, "NoSchedule"));
    }
    if spec.unschedulable == Some(true) {
        keys.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is_wanted = |t: &Taint| keys.iter().any(|(k, e)| t.key == *k && t.effect == *e);
    let mut after: Vec<Taint> = before
        .iter()
        .filter(|t| !is_managed(t) || is_wanted(t))
        .cloned()
        .collect();
    for (key, effect) in keys {
        if !after.iter().any(|t| t.key == key && t.effect == effect) {
            let time_added = Some(Time(now));
            after.push(Taint {
                key: key.into(),
                effect: effect.into(),
                value: None,
                time_added,
            });
        }
    }
    (after != before).then_some(after)
}

/// How long a pod with these tolerations may stay on a node with these taints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// As long as it likes.
    Forever,
    /// Until this long after the taints came.
    For(Duration),
}

/// Judges a pod's stay by the NoExecute taints alone.
pub(super) fn stay(taints: &[Taint], tolerations: &[Toleration]) -> Stay {
    let mut shortest = None;
    for taint in taints.iter().filter(|t| t.effect == "NoExecute") {
        let tolerating: Vec<_> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
        if tolerating.is_empty() {
            return Stay::For(Duration::ZERO);
        }
        let limits = tolerating.iter().filter_map(|t| t.toleration_seconds);
        if let Some(limit) = limits.map(|s| u64::try_from(s).unwrap_or_default()).min() {
            shortest = Some(shortest.map_or(limit, |s: u64| s.min(limit)));
        }
    }
    shortest.map_or(Stay::Forever, |s| Stay::For(Duration::from_secs(s)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(ready: &str, taints: serde_json::Value) -> Node {
        serde_json::from_value(json!({"spec": {"taints": taints}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn taints_follow_conditions_and_leave_others_alone() {
        let foreign = json!([{"key": "mine", "effect": "NoExecute"}]);
        let got = wanted(&node("Unknown", foreign), now()).unwrap();
        let keys: Vec<_> = got.iter().map(|t| (t.key.as_str(), t.effect.as_str())).collect();
        assert_eq!(
            keys,
            [
                ("mine", "NoExecute"),
                (UNREACHABLE, "NoSchedule"),
                (UNREACHABLE, "NoExecute")
            ]
        );
        let recovered = wanted(&node("True", serde_json::to_value(&got).unwrap()), now()).unwrap();
        assert_eq!(recovered.len(), 1);
        assert_eq!(
            wanted(&node("True", serde_json::to_value(&recovered).unwrap()), now()),
            None
        );
    }

    #[test]
    fn a_stay_is_as_long_as_the_shortest_toleration() {
        let taint = |key: &str| Taint {
            key: key.into(),
            effect: "NoExecute".into(),
            ..Taint::default()
        };
        let toleration = |key: &str, seconds| Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        assert_eq!(stay(&[taint("a")], &[]), Stay::For(Duration::ZERO));
        assert_eq!(stay(&[taint("a")], &[toleration("a", None)]), Stay::Forever);
        let both = [toleration("a", Some(300)), toleration("b", Some(4))];
        assert_eq!(
            stay(&[taint("a"), taint("b")], &both),
            Stay::For(Duration::from_secs(4))
        );
        let everything = Toleration {
            operator: Some("Exists".into()),
            ..Toleration::default()
        };
        assert_eq!(stay(&[taint("x")], &[everything]), Stay::Forever);
    }
}
