//! Events, in the form of core/v1 as they are stored.
use jiff::Timestamp;
use serde_json::Value;

use super::since;
use crate::value::{number, text};

fn first_time(event: &Value) -> &str {
    match text(event, "/firstTimestamp") {
        "" => text(event, "/eventTime"),
        first => first,
    }
}

fn last_time(event: &Value) -> &str {
    match (
        text(event, "/series/lastObservedTime"),
        text(event, "/lastTimestamp"),
    ) {
        ("", "") => first_time(event),
        ("", last) => last,
        (series, _) => series,
    }
}

pub(crate) fn last_seen(event: &Value, now: Timestamp) -> Value {
    since(last_time(event), now).into()
}

pub(crate) fn first_seen(event: &Value, now: Timestamp) -> Value {
    since(first_time(event), now).into()
}

pub(crate) fn count(event: &Value, _now: Timestamp) -> Value {
    match (number(event, "/series/count"), number(event, "/count")) {
        (0, 0) => 1.into(),
        (0, count) => count.into(),
        (series, _) => series.into(),
    }
}

pub(crate) fn kind(event: &Value, _now: Timestamp) -> Value {
    text(event, "/type").into()
}

pub(crate) fn reason(event: &Value, _now: Timestamp) -> Value {
    text(event, "/reason").into()
}

pub(crate) fn object(event: &Value, _now: Timestamp) -> Value {
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    match text(event, "/involvedObject/name") {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

pub(crate) fn subobject(event: &Value, _now: Timestamp) -> Value {
    text(event, "/involvedObject/fieldPath").into()
}

pub(crate) fn source(event: &Value, _now: Timestamp) -> Value {
    let either = |a, b| {
        if text(event, a).is_empty() {
            text(event, b)
        } else {
            text(event, a)
        }
    };
    let component = either("/source/component", "/reportingComponent");
    let host = either("/source/host", "/reportingInstance");
    if host.is_empty() {
        component.into()
    } else {
        format!("{component}, {host}").into()
    }
}

pub(crate) fn message(event: &Value, _now: Timestamp) -> Value {
    text(event, "/message").trim().into()
}
