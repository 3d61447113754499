//! Certificate signing requests.
use jiff::Timestamp;
use knode_api::time;
use serde_json::Value;

use super::{NONE, or_none};
use crate::value::{condition, list, text};

pub(crate) fn signer(request: &Value, _now: Timestamp) -> Value {
    or_none(text(request, "/spec/signerName")).into()
}

pub(crate) fn requestor(request: &Value, _now: Timestamp) -> Value {
    text(request, "/spec/username").into()
}

pub(crate) fn duration(request: &Value, _now: Timestamp) -> Value {
    match request.pointer("/spec/expirationSeconds").and_then(Value::as_i64) {
        Some(seconds) => time::human_duration(seconds).into(),
        None => NONE.into(),
    }
}

pub(crate) fn state(request: &Value, _now: Timestamp) -> Value {
    let conditions = list(request, "/status/conditions");
    let has = |kind| condition(conditions, kind).is_some();
    let mut out = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_string();
    if has("Failed") {
        out.push_str(",Failed");
    }
    if !text(request, "/status/certificate").is_empty() {
        out.push_str(",Issued");
    }
    out.into()
}
