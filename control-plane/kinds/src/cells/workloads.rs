//! DaemonSets and controller revisions.
use jiff::Timestamp;
use knode_api::selector::LabelSelector;
use serde_json::Value;

use super::{NONE, labels, or_none};
use crate::value::{flag, list, map, number, text};

pub(crate) fn desired(set: &Value, _now: Timestamp) -> Value {
    number(set, "/status/desiredNumberScheduled").into()
}

pub(crate) fn current(set: &Value, _now: Timestamp) -> Value {
    number(set, "/status/currentNumberScheduled").into()
}

pub(crate) fn ready(set: &Value, _now: Timestamp) -> Value {
    number(set, "/status/numberReady").into()
}

pub(crate) fn updated(set: &Value, _now: Timestamp) -> Value {
    number(set, "/status/updatedNumberScheduled").into()
}

pub(crate) fn available(set: &Value, _now: Timestamp) -> Value {
    number(set, "/status/numberAvailable").into()
}

pub(crate) fn node_selector(set: &Value, _now: Timestamp) -> Value {
    labels(map(set, "/spec/template/spec/nodeSelector")).into()
}

fn containers(set: &Value, pointer: &str) -> Value {
    let all = list(set, "/spec/template/spec/containers").iter();
    all.map(|c| text(c, pointer)).collect::<Vec<_>>().join(",").into()
}

pub(crate) fn names(set: &Value, _now: Timestamp) -> Value {
    containers(set, "/name")
}

pub(crate) fn images(set: &Value, _now: Timestamp) -> Value {
    containers(set, "/image")
}

pub(crate) fn selector(set: &Value, _now: Timestamp) -> Value {
    match LabelSelector::from_object(set.pointer("/spec/selector")) {
        Ok(s) => or_none(&s.to_string()).into(),
        Err(_) => "<error>".into(),
    }
}

pub(crate) fn controller(revision: &Value, _now: Timestamp) -> Value {
    let owners = list(revision, "/metadata/ownerReferences").iter();
    let Some(owner) = owners.into_iter().find(|o| flag(o, "/controller")) else {
        return NONE.into();
    };
    let kind = text(owner, "/kind").to_lowercase();
    let group = text(owner, "/apiVersion")
        .split_once('/')
        .map_or("", |(group, _)| group);
    let dot = if group.is_empty() { "" } else { "." };
    format!("{kind}{dot}{group}/{}", text(owner, "/name")).into()
}

pub(crate) fn revision(revision: &Value, _now: Timestamp) -> Value {
    number(revision, "/revision").into()
}
