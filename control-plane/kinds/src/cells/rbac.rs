//! Role bindings.
use jiff::Timestamp;
use serde_json::Value;

use crate::value::{list, text};

pub(crate) fn role(binding: &Value, _now: Timestamp) -> Value {
    format!(
        "{}/{}",
        text(binding, "/roleRef/kind"),
        text(binding, "/roleRef/name")
    )
    .into()
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let of_kind = list(binding, "/subjects")
        .iter()
        .filter(|s| text(s, "/kind") == kind);
    let names: Vec<String> = of_kind
        .map(|s| match text(s, "/namespace") {
            "" => text(s, "/name").to_string(),
            namespace => format!("{namespace}/{}", text(s, "/name")),
        })
        .collect();
    names.join(", ").into()
}

pub(crate) fn users(binding: &Value, _now: Timestamp) -> Value {
    subjects(binding, "User")
}

pub(crate) fn groups(binding: &Value, _now: Timestamp) -> Value {
    subjects(binding, "Group")
}

pub(crate) fn service_accounts(binding: &Value, _now: Timestamp) -> Value {
    subjects(binding, "ServiceAccount")
}
