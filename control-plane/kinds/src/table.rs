//! Tables for `kubectl get`.
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;

/// One column.
pub struct Column {
    /// Its heading.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `date`.
    pub r#type: &'static str,
    /// `name` for the name column, else empty.
    pub format: &'static str,
    /// Zero is shown always, one with `-o wide`.
    pub priority: i64,
    /// Its cell of an object at a time.
    pub cell: fn(&Value, Timestamp) -> Value,
}

/// What goes into each row's `object`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The object's metadata.
    Metadata,
    /// The whole object.
    Object,
}

/// Descriptions as upstream serves them: `resource/Column<tab>JSON-escaped text`, or `Column` for all.
const DESCRIPTIONS: &str = include_str!("rows/descriptions.txt");

/// `columnDefinitions`.
pub fn definitions(kind: &Kind) -> Value {
    let definition = |c: &Column| {
        json!({"name": c.name, "type": c.r#type, "format": c.format,
               "description": description(kind.plural, c.name), "priority": c.priority})
    };
    kind.columns.iter().map(definition).collect()
}

fn description(plural: &str, column: &str) -> Value {
    let own = format!("{plural}/{column}");
    let find = |key: &str| {
        DESCRIPTIONS.lines().find_map(|l| {
            l.split_once('\t')
                .filter(|(k, _)| *k == key)
                .map(|(_, text)| text)
        })
    };
    let text = find(&own).or_else(|| find(column)).unwrap_or_default();
    serde_json::from_str(&format!("\"{text}\"")).unwrap_or_default()
}

/// One row. The object is taken as it is for [`IncludeObject::Object`].
pub fn row(kind: &Kind, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let cells: Vec<Value> = kind.columns.iter().map(|c| (c.cell)(object, now)).collect();
    let body = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": object.get("metadata").cloned().unwrap_or_default(),
        }),
        IncludeObject::Object => object.clone(),
    };
    let mut row = json!({"cells": cells, "object": body});
    if let Some(conditions) = conditions(kind, object) {
        row["conditions"] = conditions;
    }
    row
}

/// Marks rows of pods that have ended, so that clients can hide them.
fn conditions(kind: &Kind, object: &Value) -> Option<Value> {
    let phase = object.pointer("/status/phase").and_then(Value::as_str)?;
    let message = match (kind.kind, phase) {
        ("Pod", "Succeeded") => "The pod has completed successfully.",
        ("Pod", "Failed") => "The pod failed.",
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": phase, "message": message}]))
}

/// A whole `meta.k8s.io/v1` Table; `list_metadata` is the list's `metadata`. Watches leave the definitions
/// out after the first event (`definitions: false`).
pub fn table(kind: &Kind, list_metadata: Value, rows: Vec<Value>, definitions: bool) -> Value {
    let columns = if definitions {
        self::definitions(kind)
    } else {
        Value::Null
    };
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_metadata,
           "columnDefinitions": columns, "rows": rows})
}
