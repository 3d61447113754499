//! Events.
use knode_api::field::FieldError;
use serde_json::Value;

use super::Errors;
use crate::value::text;

/// An event lies in the namespace of what it is about; what has none, in `default`.
pub(crate) fn create(event: &Value) -> Errors {
    let (own, about) = (
        text(event, "/metadata/namespace"),
        text(event, "/involvedObject/namespace"),
    );
    let fine = if about.is_empty() {
        matches!(own, "" | "default" | "kube-system")
    } else {
        own == about
    };
    if fine {
        return Errors::new();
    }
    vec![FieldError::invalid(
        "involvedObject.namespace",
        about,
        "does not match event.namespace",
    )]
}
