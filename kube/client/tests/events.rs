//! Which requests events come to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use knode_client::{Correlator, EventAction, EventKind, EventSource};
use serde_json::json;

fn pod(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some("rec".to_owned()),
        name: Some(name.to_owned()),
        uid: Some("u1".to_owned()),
        api_version: Some("v1".to_owned()),
        field_path: Some("spec.containers{c}".to_owned()),
        ..ObjectReference::default()
    }
}

fn correlator() -> Correlator {
    Correlator::new(EventSource {
        component: "kubelet".to_owned(),
        host: "node1".to_owned(),
    })
}

fn at(seconds: i64) -> Timestamp {
    "2026-11-22T14:49:27.5Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

#[test]
fn the_first_is_created_as_upstream_writes_it_and_repetitions_are_counted() {
    let mut correlator = correlator();
    let first = correlator.observe(
        &pod("crash"),
        EventKind::Normal,
        "Created",
        "Container created",
        at(0),
    );
    let EventAction::Create(event) = first else {
        panic!("{first:?}")
    };
    let name = event.metadata.name.clone().unwrap();
    assert_eq!(name, format!("crash.{:x}", at(0).as_nanosecond()));
    let expected = json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "rec"},
        "involvedObject": {
            "kind": "Pod", "namespace": "rec", "name": "crash", "uid": "u1", "apiVersion": "v1",
            "fieldPath": "spec.containers{c}",
        },
        "reason": "Created", "message": "Container created",
        "source": {"component": "kubelet", "host": "node1"},
        "firstTimestamp": "2026-11-22T14:49:27Z", "lastTimestamp": "2026-11-22T14:49:27Z",
        "count": 1, "type": "Normal", "reportingComponent": "kubelet", "reportingInstance": "node1",
    });
    assert_eq!(serde_json::to_value(&*event).unwrap(), expected);
    let again = correlator.observe(
        &pod("crash"),
        EventKind::Normal,
        "Created",
        "Container created",
        at(3),
    );
    let EventAction::Patch {
        name: patched,
        patch,
        event,
    } = again
    else {
        panic!("{again:?}")
    };
    assert_eq!(patched, name);
    let expected =
        json!({"count": 2, "lastTimestamp": "2026-11-22T14:49:30Z", "message": "Container created"});
    assert_eq!(patch, expected);
    assert_eq!(event.count, Some(2));
}

#[test]
fn other_reasons_messages_and_objects_are_other_events() {
    let mut correlator = correlator();
    let mut created = |name: &str, reason: &str, message: &str| {
        let action = correlator.observe(&pod(name), EventKind::Warning, reason, message, at(0));
        matches!(action, EventAction::Create(_))
    };
    assert!(created("a", "Failed", "one"));
    assert!(created("a", "Failed", "two"));
    assert!(created("a", "BackOff", "one"));
    assert!(created("b", "Failed", "one"));
    assert!(!created("b", "Failed", "one"));
}

#[test]
fn many_similar_events_are_combined() {
    let mut correlator = correlator();
    let mut last = None;
    for number in 0..12 {
        let message = format!("failure {number}");
        last = Some(correlator.observe(&pod("a"), EventKind::Warning, "Failed", &message, at(number)));
    }
    let Some(EventAction::Patch { patch, .. }) = last else {
        panic!("{last:?}")
    };
    assert_eq!(patch["message"], "(combined from similar events): failure 11");
    let later = correlator.observe(&pod("a"), EventKind::Warning, "Failed", "fresh", at(12 + 601));
    let EventAction::Create(event) = later else {
        panic!("{later:?}")
    };
    assert_eq!(event.message.as_deref(), Some("fresh"));
}

#[test]
fn a_flood_of_one_object_is_dropped_and_thins_out() {
    let mut correlator = correlator();
    let mut sent = 0;
    for second in 0..100 {
        let action = correlator.observe(&pod("a"), EventKind::Normal, "Pulled", "same", at(second));
        sent += usize::from(action != EventAction::Drop);
    }
    assert_eq!(sent, 25);
    let later = correlator.observe(&pod("a"), EventKind::Normal, "Pulled", "same", at(100 + 300));
    assert_ne!(later, EventAction::Drop);
    let other = correlator.observe(&pod("b"), EventKind::Normal, "Pulled", "same", at(100));
    assert!(matches!(other, EventAction::Create(_)));
}
