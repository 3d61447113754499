//! What holds for the metadata of every object.
use knode_api::field::FieldError;
use knode_api::names;
use serde_json::Value;

use crate::kind::Kind;

/// The usual rule for names: an RFC 1123 subdomain; a prefix may end with `-`.
pub fn subdomain_name(name: &str, prefix: bool) -> Vec<String> {
    names::dns1123_subdomain(stem(name, prefix))
}

/// A prefix that ends with `-` counts without it.
pub(crate) fn stem(name: &str, prefix: bool) -> &str {
    if prefix {
        name.strip_suffix('-').unwrap_or(name)
    } else {
        name
    }
}

/// What is wrong with a new object's metadata.
pub fn validate(_kind: &Kind, _object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// What is wrong with a change of metadata.
pub fn validate_update(_kind: &Kind, _new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}
