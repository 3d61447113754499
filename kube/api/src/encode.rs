//! Objects to JSON text with the fields in upstream's order.
use serde_json::{Map, Value};

use crate::schema::{Container, Field, Schema, Shape, TypeId, schema};

/// Writes `value` as JSON, fields in the order of its type; what the type doesn't know comes last.
/// Without a type the map's own order is kept.
pub fn json(value: &Value, ty: Option<TypeId>, out: &mut Vec<u8>) {
    match (value, ty) {
        (Value::Object(map), Some(ty)) => message(schema(), map, ty, out),
        _ => plain(value, out),
    }
}

/// As [`json()`], the type taken from the object's own `apiVersion` and `kind`. The objects in a Table's rows
/// are written by their own types.
pub fn object(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_object(value, &mut out);
    out
}

fn write_object(value: &Value, out: &mut Vec<u8>) {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    json(value, schema().api_version(text("apiVersion"), text("kind")), out);
}

fn plain(value: &Value, out: &mut Vec<u8>) {
    // Writing JSON values to memory cannot fail.
    let _ = serde_json::to_writer(out, value);
}

fn text(s: &str, out: &mut Vec<u8>) {
    // As above.
    let _ = serde_json::to_writer(out, s);
}

fn message(schema: &Schema, map: &Map<String, Value>, ty: TypeId, out: &mut Vec<u8>) {
    out.push(b'{');
    let start = out.len();
    let mut written = 0;
    for f in schema.fields(ty) {
        if let Some(value) = map.get(f.name) {
            key(f.name, start, out);
            field(schema, value, f, out);
            written += 1;
        }
    }
    if written < map.len() {
        for (name, value) in map.iter().filter(|(name, _)| schema.field(ty, name).is_none()) {
            key(name, start, out);
            plain(value, out);
        }
    }
    out.push(b'}');
}

fn key(name: &str, start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b',');
    }
    text(name, out);
    out.push(b':');
}

fn field(schema: &Schema, value: &Value, field: &Field, out: &mut Vec<u8>) {
    let Shape::Message(ty) = field.shape else {
        return plain(value, out);
    };
    match (field.container, value) {
        (Container::Single, Value::Object(map)) => message(schema, map, ty, out),
        (Container::List, Value::Array(list)) => {
            out.push(b'[');
            for (i, element) in list.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                json(element, Some(ty), out);
            }
            out.push(b']');
        }
        (Container::Map, Value::Object(map)) => {
            out.push(b'{');
            let start = out.len();
            for (name, element) in map {
                key(name, start, out);
                json(element, Some(ty), out);
            }
            out.push(b'}');
        }
        _ => plain(value, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_stand_in_upstreams_order() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "zzz": 1, "metadata": {"namespace": "b", "name": "a"},
            "spec": {"containers": [{"image": "i", "name": "c"}]}, "status": {},
        });
        assert_eq!(
            String::from_utf8(object(&pod)).unwrap(),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"b"},"spec":{"containers":[{"name":"c","image":"i"}]},"status":{},"zzz":1}"#
        );
    }
}
