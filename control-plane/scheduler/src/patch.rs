//! The PodScheduled condition of a pod that no node can take. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::Pod;

const REASON: &str = "Unschedulable";

/// The strategic merge patch of the pod's status, or nothing when it says so already.
pub(crate) fn unschedulable(pod: &Pod, message: &str, now: Timestamp) -> Option<Value> {
    let known = pod
        .condition
        .as_ref()
        .filter(|known| known.status == "False" && known.reason == REASON);
    let Some(known) = known else {
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": REASON, "message": message,
            "lastProbeTime": null, "lastTransitionTime": seconds(now),
        });
        if let Some(generation) = pod.generation {
            condition["observedGeneration"] = generation.into();
        }
        return Some(json!({"status": {"conditions": [condition]}}));
    };
    let mut change = json!({"type": "PodScheduled"});
    if known.message != message {
        change["message"] = message.into();
    }
    if known.observed_generation != pod.generation {
        change["observedGeneration"] = pod.generation.into();
    }
    let changed = change.as_object().is_some_and(|fields| fields.len() > 1);
    let order = json!([{"type": "PodScheduled"}]);
    changed.then(|| json!({"status": {"$setElementOrder/conditions": order, "conditions": [change]}}))
}

/// Kubernetes' times have whole seconds.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Condition;

    fn pod(condition: Option<Condition>) -> Pod {
        let object = json!({"metadata": {"name": "p", "generation": 1}, "spec": {"containers": []}});
        Pod {
            condition,
            ..Pod::of(&serde_json::from_value(object).unwrap())
        }
    }

    fn known(reason: &str, message: &str) -> Option<Condition> {
        let (status, reason, message) = ("False".into(), reason.into(), message.into());
        Some(Condition {
            status,
            reason,
            message,
            observed_generation: Some(1),
        })
    }

    #[test]
    fn patches_are_those_of_the_recordings() {
        let now = "2026-11-22T14:49:25.845889Z".parse().unwrap();
        assert_eq!(
            unschedulable(&pod(None), "m", now).unwrap(),
            json!({"status": {"conditions": [{
                "lastProbeTime": null, "lastTransitionTime": "2026-11-22T14:49:25Z", "message": "m",
                "observedGeneration": 1, "reason": "Unschedulable", "status": "False", "type": "PodScheduled",
            }]}})
        );
        assert_eq!(
            unschedulable(&pod(known("Unschedulable", "old")), "new", now).unwrap(),
            json!({"status": {
                "$setElementOrder/conditions": [{"type": "PodScheduled"}],
                "conditions": [{"message": "new", "type": "PodScheduled"}],
            }})
        );
        assert_eq!(unschedulable(&pod(known("Unschedulable", "m")), "m", now), None);
        let gated = unschedulable(&pod(known("SchedulingGated", "m")), "m", now).unwrap();
        assert_eq!(gated["status"]["conditions"][0]["reason"], "Unschedulable");
    }
}
