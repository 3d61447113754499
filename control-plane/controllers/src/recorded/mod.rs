//! What upstream's controllers wrote (Kubernetes 1.36.2), held against what ours write in the same situation.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A part of the recording by its JSON pointer.
pub(crate) fn part(pointer: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("upstream-1.36.json")).expect("the recording is JSON");
    let part = all.pointer(pointer).cloned();
    part.unwrap_or_else(|| panic!("{pointer} is not recorded"))
}

/// A recorded object.
pub(crate) fn object<T: DeserializeOwned>(pointer: &str) -> T {
    serde_json::from_value(part(pointer)).expect("the recorded object is of this type")
}

/// The JSON of one of our objects, without what only the server sets.
pub(crate) fn shape<T: serde::Serialize>(object: &T) -> Value {
    trimmed(serde_json::to_value(object).expect("an object is JSON"))
}

/// Leaves out what only the server sets, and what says nothing: nulls, and empty status.
pub(crate) fn trimmed(mut value: Value) -> Value {
    let set_by_server = [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
    ];
    if let Some(meta) = value.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        meta.retain(|key, _| !set_by_server.contains(&key.as_str()));
    }
    if let Some(object) = value.as_object_mut() {
        object.retain(|key, value| {
            let is_empty_status =
                key == "status" && value.as_object().is_some_and(|status| status.is_empty());
            !value.is_null() && !is_empty_status
        });
    }
    value
}
