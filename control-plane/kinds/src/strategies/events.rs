//! Events: one store, two APIs. The store has the form of core/v1.
use jiff::{SignedDuration, Timestamp};
use knode_api::field::FieldError;
use serde_json::{Map, Value};

use crate::strategy::{Expiry, Strategy};
use crate::validation;

/// Events are kept this long, as upstream keeps them.
const LIFETIME: SignedDuration = SignedDuration::from_hours(1);

/// What the fields are called in core/v1 and in events.k8s.io/v1.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

pub(crate) struct CoreEvents;

impl Strategy for CoreEvents {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate(&self, event: &Value) -> Vec<FieldError> {
        validation::events::create(event)
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validation::events::create(new)
    }

    fn expiry(&self) -> Option<Expiry> {
        Some(expiry)
    }
}

/// Counted from the last time that the event speaks of, which is that of its last change.
fn expiry(event: &Value) -> Option<Timestamp> {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    let last = times
        .into_iter()
        .filter_map(|time| knode_api::time::parse(time.as_str()?).ok())
        .max()?;
    // One at the end of time stays.
    last.checked_add(LIFETIME).ok()
}

pub(crate) struct NewEvents;

impl Strategy for NewEvents {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn expiry(&self) -> Option<Expiry> {
        Some(expiry)
    }

    fn stored_form(&self, mut event: Value) -> Value {
        rename(&mut event, NAMES.map(|(core, new)| (new, core)), "v1");
        event
    }

    fn served_form(&self, mut event: Value) -> Value {
        rename(&mut event, NAMES, "events.k8s.io/v1");
        event
    }
}

fn rename(event: &mut Value, names: [(&str, &str); 7], api_version: &str) {
    let Some(map) = event.as_object_mut() else { return };
    for (from, to) in names {
        move_field(map, from, to);
    }
    map.insert("apiVersion".into(), api_version.into());
}

fn move_field(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.into(), value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::expiry;

    #[test]
    fn an_event_goes_an_hour_after_it_was_seen_last() {
        let seen = |event| expiry(&event).map(|time| time.to_string());
        let made = json!({"creationTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(
            seen(json!({"metadata": made})).as_deref(),
            Some("2026-01-01T01:00:00Z")
        );
        let again = json!({"metadata": made, "lastTimestamp": "2026-01-01T00:30:00Z", "eventTime": null});
        assert_eq!(seen(again).as_deref(), Some("2026-01-01T01:30:00Z"));
        let series = json!({"metadata": made, "series": {"lastObservedTime": "2026-01-01T02:00:00.5Z"}});
        assert_eq!(seen(series).as_deref(), Some("2026-01-01T03:00:00.5Z"));
        assert_eq!(
            seen(json!({"metadata": {"creationTimestamp": "9999-12-30T21:59:59Z"}})),
            None
        );
        assert_eq!(seen(json!({})), None);
    }
}
