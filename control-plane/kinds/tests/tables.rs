//! The tables that upstream served, recorded, against the columns of the kind table.
#![allow(clippy::unwrap_used, reason = "a test may")]

use jiff::Timestamp;
use knode_kinds::table;
use serde_json::{Value, json};

#[test]
fn columns_are_upstreams() {
    let mut seen = 0;
    for line in include_str!("data/columns.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = |k: &str| row[k].as_str().unwrap();
        let Some(kind) = knode_kinds::find(text("group"), text("version"), text("plural")) else {
            continue;
        };
        assert_eq!(table::definitions(kind), row["columns"], "{}", kind.plural);
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} tables");
}

fn cells(plural: &str, object: &Value) -> Vec<Value> {
    let kind = knode_kinds::kinds().iter().find(|k| k.plural == plural).unwrap();
    let now: Timestamp = "2026-11-22T15:00:00Z".parse().unwrap();
    let row = table::row(kind, object, table::IncludeObject::None, now);
    row["cells"].as_array().unwrap().clone()
}

fn pod(status: Value) -> Value {
    json!({"metadata": {"name": "p", "creationTimestamp": "2026-11-22T14:59:00Z"},
           "spec": {"nodeName": "n", "containers": [{"name": "c"}]}, "status": status})
}

#[test]
fn pods_show_the_state_of_their_containers() {
    let shown = |status: Value| {
        let c = cells("pods", &pod(status));
        (
            c[1].as_str().unwrap().to_string(),
            c[2].as_str().unwrap().to_string(),
            c[3].as_str().unwrap().to_string(),
        )
    };
    let running = json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [
        {"name": "c", "ready": true, "restartCount": 2, "state": {"running": {}},
         "lastState": {"terminated": {"finishedAt": "2026-11-22T14:58:00Z"}}}]});
    assert_eq!(
        shown(running),
        ("1/1".into(), "Running".into(), "2 (2m ago)".into())
    );
    let waiting = json!({"phase": "Pending", "containerStatuses": [
        {"name": "c", "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
    assert_eq!(
        shown(waiting),
        ("0/1".into(), "ImagePullBackOff".into(), "0".into())
    );
    let ended = json!({"phase": "Failed", "containerStatuses": [
        {"name": "c", "restartCount": 0, "state": {"terminated": {"exitCode": 3}}}]});
    assert_eq!(shown(ended).1, "ExitCode:3");
    assert_eq!(
        shown(json!({"phase": "Pending"})),
        ("0/1".into(), "Pending".into(), "0".into())
    );
}

#[test]
fn pods_show_their_init_containers() {
    let mut p = pod(json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "i", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}},
        {"name": "j", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}));
    p["spec"]["initContainers"] = json!([{"name": "i"}, {"name": "j"}]);
    assert_eq!(cells("pods", &p)[2], "Init:CrashLoopBackOff");
    p["status"]["initContainerStatuses"][1]["state"] = json!({"running": {}});
    assert_eq!(cells("pods", &p)[2], "Init:1/2");
    p["metadata"]["deletionTimestamp"] = "2026-11-22T14:59:30Z".into();
    assert_eq!(cells("pods", &p)[2], "Terminating");
}

#[test]
fn rows_of_ended_pods_are_marked() {
    let kind = knode_kinds::find("", "v1", "pods").unwrap();
    let now: Timestamp = "2026-11-22T15:00:00Z".parse().unwrap();
    let row = table::row(
        kind,
        &pod(json!({"phase": "Succeeded"})),
        table::IncludeObject::Metadata,
        now,
    );
    assert_eq!(row["conditions"][0]["reason"], "Succeeded");
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
}

#[test]
fn other_rows() {
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "clusterIPs": ["10.1.1.1"],
        "selector": {"b": "2", "a": "1"}, "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]}});
    assert_eq!(
        cells("services", &service),
        [
            "s",
            "NodePort",
            "10.1.1.1",
            "<none>",
            "80:30080/TCP",
            "<unknown>",
            "a=1,b=2"
        ]
        .map(Value::from)
    );
    let slice = json!({"metadata": {"name": "e"}, "addressType": "IPv4", "ports": [{"port": 80}],
        "endpoints": [{"addresses": ["1", "2"]}, {"addresses": ["3"]}, {"addresses": ["4"]}]});
    assert_eq!(cells("endpointslices", &slice)[3], "1,2,3 + 1 more...");
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(
        cells("nodes", &node)[1..3],
        ["Ready,SchedulingDisabled", "control-plane"].map(Value::from)
    );
    let request = json!({"metadata": {"name": "r"}, "spec": {"username": "u", "signerName": "s/x", "expirationSeconds": 3600},
        "status": {"conditions": [{"type": "Approved"}], "certificate": "AAAA"}});
    assert_eq!(
        cells("certificatesigningrequests", &request)[2..],
        ["s/x", "u", "60m", "Approved,Issued"].map(Value::from)
    );
    let event = json!({"metadata": {"name": "x"}, "involvedObject": {"kind": "Pod", "name": "p"}, "type": "Normal",
        "source": {"component": "kubelet", "host": "n"}, "lastTimestamp": "2026-11-22T14:59:00Z", "count": 3, "message": "m\n"});
    let c = cells("events", &event);
    assert_eq!(
        (&c[0], &c[3], &c[5], &c[6], &c[8]),
        (
            &"60s".into(),
            &"pod/p".into(),
            &"kubelet, n".into(),
            &"m".into(),
            &3.into()
        )
    );
}
