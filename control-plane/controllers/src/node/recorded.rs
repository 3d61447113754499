//! Against the recording: a node whose kubelet was killed, and a pod driven out by a taint.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::{evict, health, taints};
use crate::recorded::part;

fn now() -> Timestamp {
    "2026-11-22T15:00:22Z".parse().unwrap()
}

fn node(conditions: &Value) -> Node {
    serde_json::from_value(json!({"metadata": {"name": "node1"}, "status": {"conditions": conditions}}))
        .unwrap()
}

#[test]
fn a_lost_nodes_conditions_are_upstreams() {
    let recorded = part("/lostConditions");
    let mut before = recorded.clone();
    for condition in before.as_array_mut().unwrap() {
        let healthy = if condition["type"] == "Ready" {
            "True"
        } else {
            "False"
        };
        condition["status"] = healthy.into();
        condition["reason"] = "KubeletIsWell".into();
        condition["lastTransitionTime"] = "2026-11-22T14:00:00Z".into();
    }
    let lost = health::lost(&node(&before), now()).unwrap();
    assert_eq!(
        serde_json::to_value(lost.status.unwrap().conditions).unwrap(),
        recorded
    );
}

#[test]
fn a_lost_nodes_first_taint_is_upstreams() {
    let wanted = taints::wanted(&node(&part("/lostConditions")), now()).unwrap();
    let recorded = part("/lostTaints/spec/taints");
    assert_eq!(serde_json::to_value(&wanted[..1]).unwrap(), recorded);
}

#[test]
fn the_reason_of_an_eviction_is_upstreams() {
    let kinds = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ];
    let conditions: Vec<Value> = kinds
        .iter()
        .map(|kind| json!({"type": kind, "status": "True"}))
        .collect();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"uid": "008386f3-b5f1-4895-b9f8-8519aefbf461", "generation": 1},
        "status": {"conditions": conditions}}))
    .unwrap();
    let at: Timestamp = "2026-11-22T14:50:29Z".parse().unwrap();
    assert_eq!(evict::disruption(&pod, at), part("/evictPatch"));
}
