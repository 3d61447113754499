//! Taints and tolerations.

use k8s_openapi::api::core::v1::Taint;
use knode_api::taints;

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
    pod.tolerations
        .iter()
        .any(|toleration| taints::tolerates(toleration, taint))
}
