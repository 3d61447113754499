//! The outcome of a strategic merge patch back to its type, complaining as upstream's converter does.
use serde_json::Value;

use super::PatchError;
use crate::decode::{self, DecodeError, Decoded};
use crate::schema::TypeId;

/// Brings what a strategic merge patch made into the form of `ty`.
///
/// # Errors
/// [`PatchError::Invalid`] for a value of the wrong type.
pub fn restore(value: Value, ty: TypeId) -> Result<Decoded, PatchError> {
    decode::value(value, ty).map_err(|e| match e {
        DecodeError::Type(message) | DecodeError::Syntax(message) => PatchError::Invalid(reword(&message)),
    })
}

/// `json: cannot unmarshal string into … of type []v1.Container` to `cannot restore slice from string`.
fn reword(message: &str) -> String {
    let parts = message
        .strip_prefix("json: cannot unmarshal ")
        .and_then(|rest| Some((rest.split(' ').next()?, rest.rsplit_once(" of type ")?.1)));
    let Some((found, wanted)) = parts else {
        return message.to_string();
    };
    let found = match found {
        "object" => "map",
        "array" => "slice",
        "number" => "int64",
        other => other,
    };
    let is_struct = wanted.starts_with("v1.") && matches!(found, "map" | "slice");
    if wanted.starts_with("[]") {
        format!("cannot restore slice from {found}")
    } else if wanted.starts_with("map[") || wanted == "v1.ResourceList" {
        format!("cannot restore map from {found}")
    } else if is_struct || found == "map" || found == "slice" || is_message(wanted) {
        format!("cannot restore struct from: {found}")
    } else {
        format!("cannot convert {found} to {wanted}")
    }
}

fn is_message(go_type: &str) -> bool {
    crate::schema::schema()
        .named(&format!("core.{go_type}"))
        .is_some()
}
