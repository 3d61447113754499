//! Tables for `kubectl get`.
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;

/// One column.
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `date`.
    pub r#type: &'static str,
    /// `name` for the name column, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// Zero is shown always, one with `-o wide`.
    pub priority: i64,
    /// Its cell of an object at a time.
    pub cell: fn(&Value, Timestamp) -> Value,
}

/// What goes into each row's `object`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    Metadata,
    Object,
}

/// `columnDefinitions`.
pub fn definitions(kind: &Kind) -> Value {
    let definition = |c: &Column| json!({"name": c.name, "type": c.r#type, "format": c.format, "description": c.description, "priority": c.priority});
    kind.columns.iter().map(definition).collect()
}

/// One row. The object is taken as it is for [`IncludeObject::Object`].
pub fn row(kind: &Kind, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let cells: Vec<Value> = kind.columns.iter().map(|c| (c.cell)(object, now)).collect();
    let object = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": object.get("metadata").cloned().unwrap_or_default(),
        }),
        IncludeObject::Object => object.clone(),
    };
    json!({"cells": cells, "object": object})
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
