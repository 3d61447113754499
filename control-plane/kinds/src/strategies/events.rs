//! Events: one store, two APIs. The store has the form of core/v1.
use knode_api::field::FieldError;
use serde_json::{Map, Value};

use crate::strategy::Strategy;
use crate::validation;

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
}

pub(crate) struct NewEvents;

impl Strategy for NewEvents {
    fn allow_create_on_update(&self) -> bool {
        true
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
