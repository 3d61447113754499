//! What `kubectl get` shows of an object.
pub(crate) mod certificates;
pub(crate) mod events;
pub(crate) mod network;
pub(crate) mod nodes;
pub(crate) mod others;
pub(crate) mod pods;
pub(crate) mod rbac;
pub(crate) mod storage;
pub(crate) mod workloads;

use jiff::Timestamp;
use knode_api::time;
use serde_json::{Map, Value};

use crate::table::Column;
use crate::value::text;

pub(crate) const NONE: &str = "<none>";

/// A column of strings (or whatever its cell gives) with a priority.
pub(crate) const fn column(
    name: &'static str,
    r#type: &'static str,
    priority: i64,
    cell: fn(&Value, Timestamp) -> Value,
) -> Column {
    Column {
        name,
        r#type,
        format: "",
        priority,
        cell,
    }
}

pub(crate) const NAME: Column = Column {
    format: "name",
    ..column("Name", "string", 0, name)
};
pub(crate) const AGE: Column = column("Age", "string", 0, age);
pub(crate) const CREATED_AT: Column = column("Created At", "date", 0, created_at);

pub(crate) fn name(object: &Value, _now: Timestamp) -> Value {
    text(object, "/metadata/name").into()
}

fn age(object: &Value, now: Timestamp) -> Value {
    since(text(object, "/metadata/creationTimestamp"), now).into()
}

fn created_at(object: &Value, _now: Timestamp) -> Value {
    text(object, "/metadata/creationTimestamp").into()
}

/// How long ago a time in text was; `<unknown>` without one.
pub(crate) fn since(when: &str, now: Timestamp) -> String {
    match time::parse(when) {
        Ok(t) => time::human_duration(now.duration_since(t).as_secs()),
        Err(_) => "<unknown>".into(),
    }
}

/// The text, or `<none>`.
pub(crate) fn or_none(text: &str) -> &str {
    if text.is_empty() { NONE } else { text }
}

/// `a=b,c=d`, or `<none>`.
pub(crate) fn labels(labels: Option<&Map<String, Value>>) -> String {
    let pairs = labels.into_iter().flatten();
    let mut pairs: Vec<String> = pairs
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    or_none(&pairs.join(",")).to_string()
}

/// At most three of the texts, and how many more there are.
pub(crate) fn shortened(texts: &[String], empty: &str) -> String {
    const SHOWN: usize = 3;
    match texts.len() {
        0 => empty.into(),
        n if n > SHOWN => format!("{} + {} more...", texts[..SHOWN].join(","), n - SHOWN),
        _ => texts.join(","),
    }
}
