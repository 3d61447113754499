//! Kinds of one or two columns.
use jiff::Timestamp;
use serde_json::Value;

use super::or_none;
use crate::value::{flag, list, map, number, text};

pub(crate) fn phase(object: &Value, _now: Timestamp) -> Value {
    text(object, "/status/phase").into()
}

fn size(object: &Value, pointer: &str) -> usize {
    map(object, pointer).map_or(0, serde_json::Map::len)
}

pub(crate) fn data(object: &Value, _now: Timestamp) -> Value {
    (size(object, "/data") + size(object, "/binaryData")).into()
}

pub(crate) fn secret_type(secret: &Value, _now: Timestamp) -> Value {
    text(secret, "/type").into()
}

pub(crate) fn holder(lease: &Value, _now: Timestamp) -> Value {
    text(lease, "/spec/holderIdentity").into()
}

pub(crate) fn drivers(node: &Value, _now: Timestamp) -> Value {
    list(node, "/spec/drivers").len().into()
}

pub(crate) fn handler(class: &Value, _now: Timestamp) -> Value {
    text(class, "/handler").into()
}

pub(crate) fn priority(class: &Value, _now: Timestamp) -> Value {
    number(class, "/value").into()
}

pub(crate) fn global_default(class: &Value, _now: Timestamp) -> Value {
    flag(class, "/globalDefault").into()
}

pub(crate) fn attach(driver: &Value, _now: Timestamp) -> Value {
    driver
        .pointer("/spec/attachRequired")
        .and_then(Value::as_bool)
        .unwrap_or(true)
        .into()
}

pub(crate) fn pod_info(driver: &Value, _now: Timestamp) -> Value {
    flag(driver, "/spec/podInfoOnMount").into()
}

pub(crate) fn capacity(driver: &Value, _now: Timestamp) -> Value {
    flag(driver, "/spec/storageCapacity").into()
}

pub(crate) fn token_requests(driver: &Value, _now: Timestamp) -> Value {
    let audiences: Vec<&str> = list(driver, "/spec/tokenRequests")
        .iter()
        .map(|r| text(r, "/audience"))
        .collect();
    match audiences.is_empty() {
        true => "<unset>".into(),
        false => audiences.join(",").into(),
    }
}

pub(crate) fn republish(driver: &Value, _now: Timestamp) -> Value {
    flag(driver, "/spec/requiresRepublish").into()
}

pub(crate) fn modes(driver: &Value, _now: Timestamp) -> Value {
    let modes: Vec<&str> = list(driver, "/spec/volumeLifecycleModes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    or_none(&modes.join(",")).into()
}

pub(crate) fn slice_node(slice: &Value, _now: Timestamp) -> Value {
    or_none(text(slice, "/spec/nodeName")).into()
}

pub(crate) fn slice_driver(slice: &Value, _now: Timestamp) -> Value {
    text(slice, "/spec/driver").into()
}

pub(crate) fn slice_pool(slice: &Value, _now: Timestamp) -> Value {
    text(slice, "/spec/pool/name").into()
}
