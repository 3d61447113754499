use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{NodeAddress, NodeCondition, NodeStatus};
use serde_json::json;

use super::report::{Report, ReportPlan};
use super::*;

fn at(seconds: i64) -> Timestamp {
    "2026-11-22T14:47:13.25Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn starting() -> Conditions {
    let problems = vec!["CSINode is not yet initialized".to_owned()];
    Conditions {
        pressure: Pressure::default(),
        problems,
    }
}

fn status(conditions: Vec<NodeCondition>) -> NodeStatus {
    NodeStatus {
        conditions: Some(conditions),
        ..NodeStatus::default()
    }
}

#[test]
fn conditions_are_those_that_upstream_registers_with() {
    let conditions = starting().apply(&[], at(0));
    // recordings: kubelet-bootstrap, POST /api/v1/nodes
    let time = "2026-11-22T14:47:13Z";
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "False", "lastHeartbeatTime": time, "lastTransitionTime": time,
            "reason": reason, "message": message,
        })
    };
    let expected = json!([
        condition(
            "MemoryPressure",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        condition(
            "DiskPressure",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure"
        ),
        condition(
            "PIDPressure",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available"
        ),
        condition("Ready", "KubeletNotReady", "CSINode is not yet initialized"),
    ]);
    assert_eq!(serde_json::to_value(&conditions).unwrap(), expected);
}

#[test]
fn becoming_ready_sends_what_upstream_sends() {
    let old = status(starting().apply(&[], at(0)));
    // Within the same second, so that no time differs.
    let new = status(Conditions::default().apply(old.conditions.as_deref().unwrap(), at(0)));
    let patch = status_patch(&old, &new).unwrap();
    let order = json!([
        {"type": "MemoryPressure"}, {"type": "DiskPressure"}, {"type": "PIDPressure"}, {"type": "Ready"},
    ]);
    let expected = json!({"status": {
        "$setElementOrder/conditions": order,
        "conditions": [{
            "message": "kubelet is posting ready status",
            "reason": "KubeletReady", "status": "True", "type": "Ready",
        }],
    }});
    assert_eq!(patch, expected);
    let later = status(Conditions::default().apply(new.conditions.as_deref().unwrap(), at(300)));
    let patch = status_patch(&new, &later).unwrap();
    let beats = patch["status"]["conditions"].as_array().unwrap();
    assert_eq!(beats.len(), 4);
    assert_eq!(
        beats[0],
        json!({"lastHeartbeatTime": "2026-11-22T14:52:13Z", "type": "MemoryPressure"})
    );
    assert_eq!(status_patch(&later, &later), None);
}

#[test]
fn conditions_of_others_keep_their_place() {
    let mine = Conditions::default().apply(&[], at(0));
    let mut list = vec![NodeCondition {
        type_: "NetworkUnavailable".to_owned(),
        status: "False".to_owned(),
        reason: Some("FlannelIsUp".to_owned()),
        ..NodeCondition::default()
    }];
    list.extend(mine);
    let new = starting().apply(&list, at(5));
    assert_eq!(new[0], list[0]);
    assert_eq!(new.len(), 5);
    assert_eq!(
        new[4].last_transition_time.as_ref().unwrap().0.as_second(),
        at(5).as_second()
    );
    assert_eq!(
        new[1].last_transition_time.as_ref().unwrap().0.as_second(),
        at(0).as_second()
    );
}

#[test]
fn several_problems_are_listed() {
    let conditions = Conditions {
        problems: vec!["a".to_owned(), "b".to_owned()],
        ..Conditions::default()
    };
    assert_eq!(conditions.apply(&[], at(0))[3].message.as_deref(), Some("[a, b]"));
}

#[test]
fn addresses_are_replaced_and_maps_merged() {
    let address = |address: &str| NodeAddress {
        type_: "InternalIP".to_owned(),
        address: address.to_owned(),
    };
    let quantity = |text: &str| k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_owned());
    let old = NodeStatus {
        addresses: Some(vec![address("10.0.0.1")]),
        capacity: Some(
            [
                ("cpu".to_owned(), quantity("2")),
                ("x/y".to_owned(), quantity("1")),
            ]
            .into(),
        ),
        ..NodeStatus::default()
    };
    let new = NodeStatus {
        addresses: Some(vec![address("10.0.0.2")]),
        capacity: Some([("cpu".to_owned(), quantity("4"))].into()),
        ..NodeStatus::default()
    };
    let expected = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "10.0.0.2"}, {"$patch": "replace"}],
        "capacity": {"cpu": "4", "x/y": null},
    }});
    assert_eq!(status_patch(&old, &new).unwrap(), expected);
}

#[test]
fn a_pressure_is_held_for_five_minutes() {
    let mut state = PressureState::default();
    let seen = Pressure {
        memory: true,
        ..Pressure::default()
    };
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let mut observe = |seen, now| state.observe(seen, minutes(now), minutes(5));
    assert_eq!(observe(seen, 0), seen);
    assert_eq!(observe(Pressure::default(), 4), seen);
    assert_eq!(observe(Pressure::default(), 5), Pressure::default());
}

#[test]
fn a_status_is_sent_when_it_changed_or_is_old() {
    let mut report = Report::default();
    let old = status(Conditions::default().apply(&[], at(0)));
    let beat = status(Conditions::default().apply(old.conditions.as_deref().unwrap(), at(10)));
    let changed = status(starting().apply(old.conditions.as_deref().unwrap(), at(10)));
    let seconds = Duration::from_secs;
    assert_eq!(
        report.plan(&old, &beat, seconds(0)),
        ReportPlan::Send,
        "the first is always sent"
    );
    report.sent(seconds(0));
    assert_eq!(report.plan(&old, &beat, seconds(299)), ReportPlan::Skip);
    assert_eq!(report.plan(&old, &changed, seconds(10)), ReportPlan::Send);
    assert_eq!(report.plan(&old, &beat, seconds(300)), ReportPlan::Send);
    assert!(report.pause(false) < seconds(1));
    assert_eq!(report.pause(true), seconds(10));
    assert_eq!(report.pause(false), seconds(10));
}
