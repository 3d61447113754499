//! What the registry itself does to metadata (`k8s.io/apiserver/pkg/registry/rest`).

use knode_api::names::generate_name;
use knode_api::status::Status;
use knode_kinds::Kind;
use rand::RngExt;
use serde_json::{Map, Value};

use super::Ask;
use crate::clock::stamp;
use crate::http::Failure;

/// A field of an object's metadata as text, empty when absent.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The metadata, made if it isn't there.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    match metadata {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// The object belongs into the namespace of the path.
pub(crate) fn settle_namespace(ask: &Ask, object: &mut Value) -> Result<(), Failure> {
    let given = text(object, "namespace").to_owned();
    let wanted = if ask.kind.namespaced {
        ask.info.namespace.as_str()
    } else {
        ""
    };
    if !given.is_empty() && given != wanted {
        let why = match ask.kind.namespaced {
            true => "the namespace of the provided object does not match the namespace sent on the request",
            false => "namespace must be empty for a cluster-scoped object",
        };
        return Err(Status::bad_request(why).into());
    }
    match wanted {
        "" => drop(metadata(object).remove("namespace")),
        wanted => drop(metadata(object).insert("namespace".to_owned(), wanted.into())),
    }
    Ok(())
}

/// What a new object gets from the server and not from its creator.
pub(crate) fn begin(object: &mut Value) {
    let metadata = metadata(object);
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
        "generation",
    ] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), new_uid().into());
    metadata.insert("creationTimestamp".to_owned(), stamp().into());
}

/// A random name for an object that asks for one; true if it does.
pub(crate) fn settle_name(object: &mut Value) -> bool {
    if !text(object, "name").is_empty() {
        return false;
    }
    let stem = text(object, "generateName").to_owned();
    if stem.is_empty() {
        return false;
    }
    metadata(object).insert(
        "name".to_owned(),
        generate_name(&stem, rand::rng().random()).into(),
    );
    true
}

/// A random UUID (RFC 9562, version 4).
pub(crate) fn new_uid() -> String {
    let bits: u128 = rand::rng().random();
    let bits = bits & !(0xf << 76) | (4 << 76);
    let bits = bits & !(0x3 << 62) | (2 << 62);
    let hex = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// What an update may not change, whatever it says.
pub(crate) fn keep_system_fields(new: &mut Value, old: &Value) {
    let old = &old["metadata"];
    let metadata = metadata(new);
    metadata.remove("managedFields");
    metadata.remove("selfLink");
    for field in [
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match old.get(field) {
            Some(value) => drop(metadata.insert(field.to_owned(), value.clone())),
            None => drop(metadata.remove(field)),
        }
    }
    if metadata
        .get("uid")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .is_empty()
        && let Some(uid) = old.get("uid")
    {
        metadata.insert("uid".to_owned(), uid.clone());
    }
}

/// Whether the object is to be deleted and nobody holds it any more.
pub(crate) fn is_released(kind: &Kind, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let none = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let deleted = metadata["deletionTimestamp"].is_string();
    let graceless = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0;
    let free =
        none(&metadata["finalizers"]) && (kind.plural != "namespaces" || none(&object["spec"]["finalizers"]));
    deleted && graceless && free
}

#[cfg(test)]
mod tests {
    use super::new_uid;

    #[test]
    fn uids_are_version_4() {
        let uid = new_uid();
        assert_eq!((uid.len(), &uid[14..15]), (36, "4"));
        assert!(matches!(&uid[19..20], "8" | "9" | "a" | "b"), "{uid}");
    }
}
