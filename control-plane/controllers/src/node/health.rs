//! Whether a node is alive, judged by its heartbeats; pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

/// A node that has sent no heartbeat for this long is lost: as long as its lease lasts (`--node-monitor-grace-period` until
/// 1.31; upstream has since added ten seconds for kubelets that miss a beat and look again every five).
pub(super) const GRACE: Duration = Duration::from_secs(40);

/// Conditions that a kubelet keeps, in upstream's order, with what a lost kubelet's say.
const KEPT: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The last heartbeat, as the node stamped it, and when we first saw it by our own clock: the node's clock may
/// be wrong, so only its changes count.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Beat {
    renewed: Option<MicroTime>,
    reported: Option<Time>,
    seen: Duration,
}

impl Beat {
    /// Keeps the older sight of the same beat.
    pub(super) fn observe(
        old: Option<&Self>,
        node: &Node,
        renewed: Option<MicroTime>,
        now: Duration,
    ) -> Self {
        let reported = condition(node, "Ready").and_then(|c| c.last_heartbeat_time.clone());
        match old {
            Some(old) if old.renewed == renewed && old.reported == reported => old.clone(),
            _ => Self {
                renewed,
                reported,
                seen: now,
            },
        }
    }

    /// Time until the node is lost, zero if it is.
    pub(super) fn left(&self, now: Duration) -> Duration {
        GRACE.saturating_sub(now.saturating_sub(self.seen))
    }
}

/// A condition of the node.
pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == kind)
}

/// The node with every condition of its kubelet unknown; nothing if they are already.
pub(super) fn lost(node: &Node, now: Timestamp) -> Option<Node> {
    let mut wanted = node.clone();
    let conditions = wanted
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let mut changed = false;
    for kind in KEPT {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(c) if c.status == "Unknown" => {}
            Some(c) => {
                changed = true;
                c.status = "Unknown".into();
                c.reason = Some("NodeStatusUnknown".into());
                c.message = Some("Kubelet stopped posting node status.".into());
                c.last_transition_time = Some(Time(now));
            }
            None => {
                changed = true;
                conditions.push(never_posted(kind, node, now));
            }
        }
    }
    changed.then_some(wanted)
}

fn never_posted(kind: &str, node: &Node, now: Timestamp) -> NodeCondition {
    NodeCondition {
        type_: kind.into(),
        status: "Unknown".into(),
        reason: Some("NodeStatusNeverUpdated".into()),
        message: Some("Kubelet never posted node status.".into()),
        last_heartbeat_time: node.metadata.creation_timestamp.clone(),
        last_transition_time: Some(Time(now)),
    }
}

/// The pod as not ready, because its node isn't; nothing if it says so already.
pub(super) fn unready(pod: &Pod, now: Timestamp) -> Option<Pod> {
    let mut wanted = pod.clone();
    let conditions = wanted.status.as_mut()?.conditions.as_mut()?;
    let ready: &mut PodCondition = conditions
        .iter_mut()
        .find(|c| c.type_ == "Ready" && c.status == "True")?;
    ready.status = "False".into();
    ready.last_transition_time = Some(Time(now));
    Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(ready: &str) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {"conditions": [
            {"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}}))
        .unwrap()
    }

    #[test]
    fn only_a_new_beat_counts_whatever_the_nodes_clock_says() {
        let at = |s: &str| Some(MicroTime(s.parse().unwrap()));
        let s = Duration::from_secs;
        let one = Beat::observe(None, &node("True"), at("2020-01-01T00:00:00Z"), s(100));
        let same = Beat::observe(Some(&one), &node("True"), at("2020-01-01T00:00:00Z"), s(130));
        assert_eq!(same.left(s(130)), GRACE - s(30));
        let next = Beat::observe(Some(&same), &node("True"), at("2020-01-01T00:00:10Z"), s(130));
        assert_eq!(next.left(s(130)), GRACE);
        assert_eq!(one.left(s(1000)), Duration::ZERO);
    }

    #[test]
    fn a_lost_node_says_so_once() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let lost_node = lost(&node("True"), now).unwrap();
        assert_eq!(
            condition(&lost_node, "Ready").unwrap().reason.as_deref(),
            Some("NodeStatusUnknown")
        );
        assert_eq!(
            condition(&lost_node, "PIDPressure").unwrap().reason.as_deref(),
            Some("NodeStatusNeverUpdated")
        );
        assert_eq!(lost(&lost_node, now), None);
    }
}
