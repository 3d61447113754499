//! Nodes.
use jiff::Timestamp;
use serde_json::Value;

use super::{NONE, or_none};
use crate::value::{condition, flag, list, map, text};

pub(crate) fn status(node: &Value, _now: Timestamp) -> Value {
    let ready = condition(list(node, "/status/conditions"), "Ready");
    let mut out = match ready.map(|c| text(c, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_string();
    if flag(node, "/spec/unschedulable") {
        out.push_str(",SchedulingDisabled");
    }
    out.into()
}

pub(crate) fn roles(node: &Value, _now: Timestamp) -> Value {
    let labels = map(node, "/metadata/labels").into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(k, v)| match k.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if k == "kubernetes.io/role" => v.as_str(),
            None => None,
        })
        .filter(|r| !r.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    or_none(&roles.join(",")).into()
}

pub(crate) fn version(node: &Value, _now: Timestamp) -> Value {
    text(node, "/status/nodeInfo/kubeletVersion").into()
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let found = list(node, "/status/addresses")
        .iter()
        .find(|a| text(a, "/type") == kind);
    found.map_or(NONE, |a| text(a, "/address"))
}

pub(crate) fn internal_ip(node: &Value, _now: Timestamp) -> Value {
    address(node, "InternalIP").into()
}

pub(crate) fn external_ip(node: &Value, _now: Timestamp) -> Value {
    address(node, "ExternalIP").into()
}

fn info<'a>(node: &'a Value, pointer: &str) -> &'a str {
    match text(node, pointer) {
        "" => "<unknown>",
        known => known,
    }
}

pub(crate) fn os_image(node: &Value, _now: Timestamp) -> Value {
    info(node, "/status/nodeInfo/osImage").into()
}

pub(crate) fn kernel(node: &Value, _now: Timestamp) -> Value {
    let version = info(node, "/status/nodeInfo/kernelVersion");
    match text(node, "/status/nodeInfo/architecture") {
        "" => version.into(),
        arch => format!("{version} ({arch})").into(),
    }
}

pub(crate) fn runtime(node: &Value, _now: Timestamp) -> Value {
    info(node, "/status/nodeInfo/containerRuntimeVersion").into()
}
