//! Placement, with objects as the API has them.

use serde_json::{Value, json};

use super::*;
use crate::model::Node;

fn node(name: &str, change: Value) -> Node {
    let mut object = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "3", "ephemeral-storage": "10Gi"}},
    });
    merge(&mut object, change);
    Node::of(&serde_json::from_value(object).unwrap())
}

fn pod(name: &str, spec: Value) -> Pod {
    let mut whole = json!({"containers": [{"name": "c"}]});
    merge(&mut whole, spec);
    let object = json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": whole});
    Pod::of(&serde_json::from_value(object).unwrap())
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn cluster(nodes: impl IntoIterator<Item = Node>) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(node);
    }
    cluster
}

fn cpu(amount: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]})
}

fn why(pod: &Pod, cluster: &Cluster) -> String {
    match decide(pod, cluster) {
        Verdict::Unschedulable(message) => message,
        Verdict::Bind(node) => panic!("bound to {node}"),
        Verdict::Claims(changes) => panic!("claims to bind: {changes:?}"),
    }
}

/// What recordings of upstream show.
const UNHELPFUL: &str = "no new claims to deallocate, preemption: 0/1 nodes are available: \
                         1 Preemption is not helpful for scheduling.";

#[test]
fn a_plain_pod_goes_to_the_only_node() {
    let cluster = cluster([node("n1", json!({}))]);
    assert_eq!(decide(&pod("p", json!({})), &cluster), Verdict::Bind("n1".into()));
    assert_eq!(
        why(&pod("p", json!({})), &Cluster::default()),
        "no nodes available to schedule pods"
    );
}

#[test]
fn messages_are_those_of_the_recordings() {
    let one = cluster([node("n1", json!({}))]);
    assert_eq!(
        why(&pod("p", cpu("1000")), &one),
        format!("0/1 nodes are available: 1 Insufficient cpu. {UNHELPFUL}")
    );
    let selector = pod("p", json!({"nodeSelector": {"disk": "none"}}));
    assert_eq!(
        why(&selector, &one),
        format!("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {UNHELPFUL}")
    );
    let tainted = node(
        "n2",
        json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}),
    );
    assert_eq!(
        why(&pod("p", json!({})), &cluster([tainted.clone()])),
        format!("0/1 nodes are available: 1 node(s) had untolerated taint(s). {UNHELPFUL}")
    );
    assert_eq!(
        why(&selector, &cluster([node("n1", json!({})), tainted])),
        "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
         1 node(s) had untolerated taint(s). no new claims to deallocate, preemption: \
         0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    let cordoned = cluster([node("n1", json!({"spec": {"unschedulable": true}}))]);
    assert_eq!(
        why(&pod("p", json!({})), &cordoned),
        format!("0/1 nodes are available: 1 node(s) were unschedulable. {UNHELPFUL}")
    );
}

#[test]
fn room_is_what_other_pods_leave() {
    let mut cluster = cluster([node("n1", json!({}))]);
    cluster.assign(&pod("a", cpu("1500m")), "n1");
    let told = why(&pod("p", cpu("600m")), &cluster);
    assert_eq!(
        told,
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: \
         0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    assert_eq!(
        decide(&pod("p", cpu("500m")), &cluster),
        Verdict::Bind("n1".into())
    );
    for name in ["b", "c"] {
        cluster.assign(&pod(name, json!({})), "n1");
    }
    assert!(
        why(&pod("p", cpu("600m")), &cluster)
            .starts_with("0/1 nodes are available: 1 Insufficient cpu, 1 Too many pods.")
    );
    let never = pod("p", json!({"preemptionPolicy": "Never"}));
    assert!(
        why(&never, &cluster)
            .ends_with("1 Too many pods. preemption: not eligible due to preemptionPolicy=Never.")
    );
    cluster.release(&pod("a", json!({})).key);
    assert_eq!(decide(&pod("p", cpu("2")), &cluster), Verdict::Bind("n1".into()));
}

#[test]
fn a_node_that_comes_back_still_has_its_pods() {
    let mut cluster = cluster([node("n1", json!({}))]);
    cluster.assign(&pod("a", cpu("2")), "n1");
    cluster.remove_node("n1");
    assert!(cluster.set_node(node("n1", json!({}))));
    assert!(why(&pod("p", cpu("1")), &cluster).contains("Insufficient cpu"));
    assert!(!cluster.set_node(node("n1", json!({}))));
}

#[test]
fn host_ports_are_taken_once_an_address() {
    let port = |ip: &str, number: i32| json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": number, "hostIP": ip}]}]});
    let mut cluster = cluster([node("n1", json!({}))]);
    cluster.assign(&pod("a", port("10.0.0.1", 80)), "n1");
    for taken in [port("10.0.0.1", 80), port("", 80)] {
        assert!(
            why(&pod("p", taken), &cluster)
                .contains("1 node(s) didn't have free ports for the requested pod ports.")
        );
    }
    for free in [port("10.0.0.2", 80), port("", 81)] {
        assert_eq!(decide(&pod("p", free), &cluster), Verdict::Bind("n1".into()));
    }
}

#[test]
fn the_emptier_the_preferred_and_the_untainted_node_wins() {
    let mut two = cluster([node("n1", json!({})), node("n2", json!({}))]);
    assert_eq!(decide(&pod("p", json!({})), &two), Verdict::Bind("n1".into()));
    two.assign(&pod("a", cpu("1")), "n1");
    assert_eq!(decide(&pod("p", json!({})), &two), Verdict::Bind("n2".into()));
    let wish = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 1, "preference": {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
    }]}}});
    assert_eq!(decide(&pod("p", wish), &two), Verdict::Bind("n1".into()));
    two.set_node(node(
        "n2",
        json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}}),
    ));
    assert_eq!(decide(&pod("p", json!({})), &two), Verdict::Bind("n1".into()));
}

#[test]
fn a_daemon_set_s_pod_goes_to_its_node_though_it_is_cordoned() {
    let spec = json!({
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]},
        ]}}},
        "tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}],
    });
    let cordoned = json!({"spec": {
        "unschedulable": true, "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}],
    }});
    let cluster = cluster([node("n1", json!({})), node("n2", cordoned)]);
    assert_eq!(decide(&pod("p", spec), &cluster), Verdict::Bind("n2".into()));
}

#[test]
fn what_is_not_implemented_is_named() {
    let spec = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}},
    ]}}});
    assert_eq!(
        why(&pod("p", spec), &cluster([node("n1", json!({}))])),
        "0/1 nodes are available: 1 required inter-pod anti-affinity not supported by this scheduler."
    );
}

#[test]
fn only_pods_that_wait_for_this_scheduler_are_pending() {
    assert!(pod("p", json!({})).is_pending());
    for spec in [
        json!({"schedulerName": "other"}),
        json!({"schedulingGates": [{"name": "g"}]}),
        json!({"nodeName": "n1"}),
    ] {
        assert!(!pod("p", spec.clone()).is_pending(), "{spec}");
    }
    assert!(pod("p", json!({"nodeName": "n1"})).is_assigned());
}
