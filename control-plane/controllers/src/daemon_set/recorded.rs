//! Against the recording: the pod, the revision and the statuses of a DaemonSet on one node.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::plan::plan;
use super::{pod, revision};
use crate::recorded::{object, part, shape, trimmed};

const HASH: &str = "85558bbb7b";

fn set() -> DaemonSet {
    object("/daemonSet")
}

fn node() -> Arc<Node> {
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "node1"}})).unwrap())
}

/// The recorded pod, bound to the node, ready or not.
fn bound(ready: bool) -> Arc<Pod> {
    let mut pod = part("/podMade");
    pod["spec"]["nodeName"] = "node1".into();
    let ready = if ready { "True" } else { "False" };
    pod["status"] = json!({"phase": "Running", "conditions": [
        {"type": "Ready", "status": ready, "lastTransitionTime": "2026-11-22T14:52:30Z"}]});
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn now() -> Timestamp {
    "2026-11-22T14:53:00Z".parse().unwrap()
}

#[test]
fn the_pod_is_upstreams() {
    let mut recorded = trimmed(part("/pod"));
    // A default that the recorded template lacked and the pod's own defaulting adds on the server.
    recorded["spec"]
        .as_object_mut()
        .unwrap()
        .remove("enableServiceLinks");
    let mut ours = shape(&pod::on_node(&set(), "node1", HASH));
    ours["metadata"].as_object_mut().unwrap().remove("namespace");
    assert_eq!(ours, recorded);
}

#[test]
fn the_revision_is_upstreams_but_for_its_hash() {
    let recorded = part("/revision");
    let revision = revision::of(&set()).unwrap();
    let name = revision.metadata.name.clone().unwrap();
    let hash = revision::hash_of_name(&set(), &name);
    let text = serde_json::to_string(&revision).unwrap().replace(&hash, HASH);
    let mut ours: serde_json::Value = serde_json::from_str(&text).unwrap();
    ours["revision"] = 1.into();
    assert_eq!(ours, recorded);
}

#[test]
fn the_statuses_are_upstreams() {
    let status = |set: &DaemonSet, pods: &[Arc<Pod>], hash: &str| {
        serde_json::to_value(plan(set, &[node()], pods, hash, now()).status).unwrap()
    };
    assert_eq!(status(&set(), &[bound(false)], HASH), part("/status/made"));
    assert_eq!(status(&set(), &[bound(true)], HASH), part("/status/ready"));
    let mut changed = set();
    changed.metadata.generation = Some(2);
    let planned = plan(&changed, &[node()], &[bound(true)], "another", now());
    assert_eq!(
        serde_json::to_value(&planned.status).unwrap(),
        part("/status/updating")
    );
    assert_eq!(planned.delete.len(), 1, "the old pod goes");
}
