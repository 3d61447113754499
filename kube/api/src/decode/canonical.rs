//! What a type writes for a field that is zero or absent.
use serde_json::{Map, Value};

use crate::schema::{Container, Field, Scalar, Schema, Shape, TypeId};

/// An object of `ty` with nothing set.
pub(crate) fn zero_message(schema: &Schema, ty: TypeId) -> Value {
    let mut map = Map::new();
    complete(schema, ty, &mut map);
    Value::Object(map)
}

/// Adds the fields that `ty` always writes and that are not there.
pub(crate) fn complete(schema: &Schema, ty: TypeId, map: &mut Map<String, Value>) {
    for field in schema.fields(ty) {
        if field.always && !map.contains_key(field.name) {
            map.insert(field.name.into(), zero(schema, field));
        }
    }
}

/// The value of a field as it is stored: `None` if zero means absent.
pub(crate) fn settle(schema: &Schema, field: &Field, value: Value) -> Option<Value> {
    if value.is_null() {
        return field.always.then(|| zero(schema, field));
    }
    let dropped = !field.pointer && !field.always && is_zero(field, &value);
    (!dropped).then_some(value)
}

fn zero(schema: &Schema, field: &Field) -> Value {
    if field.pointer || field.container != Container::Single {
        return Value::Null;
    }
    zero_element(schema, field)
}

/// What stands for null in a list or map.
pub(crate) fn zero_element(schema: &Schema, field: &Field) -> Value {
    match field.shape {
        Shape::Message(ty) => zero_message(schema, ty),
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => "".into(),
            Scalar::Bool => false.into(),
            Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString | Scalar::Double => 0.into(),
            Scalar::Quantity => "0".into(),
            Scalar::Duration => "0s".into(),
            _ => Value::Null,
        },
    }
}

fn is_zero(field: &Field, value: &Value) -> bool {
    match (field.container, value) {
        (Container::List, Value::Array(a)) => a.is_empty(),
        (Container::Map, Value::Object(m)) => m.is_empty(),
        (Container::Single, Value::String(s)) => s.is_empty(),
        (Container::Single, Value::Bool(b)) => !b,
        (Container::Single, Value::Number(n)) => n.as_f64() == Some(0.0),
        (Container::Single, Value::Array(a)) => a.is_empty(),
        _ => false,
    }
}
