//! Values to bytes.
use serde_json::Value;

use super::wire::Writer;
use super::{ProtoError, scalar};
use crate::schema::{Container, Field, Scalar, Schema, Shape, TypeId, schema};

static NULL: Value = Value::Null;

/// Writes an object's fields in the order of their numbers.
pub(super) fn message(out: &mut Writer, object: &Value, ty: TypeId) -> Result<(), ProtoError> {
    let schema = schema();
    let mut fields = schema.wire_fields(ty).peekable();
    while let Some(first) = fields.peek().copied() {
        if first.via == 0 {
            field(schema, out, object, ty, first)?;
            fields.next();
            continue;
        }
        out.message(u32::from(first.via), |w| {
            while let Some(wrapped) = fields.next_if(|f| f.via == first.via) {
                field(schema, w, object, ty, wrapped)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn field(
    schema: &Schema,
    out: &mut Writer,
    object: &Value,
    ty: TypeId,
    field: &Field,
) -> Result<(), ProtoError> {
    let value = object.get(field.name).unwrap_or(&NULL);
    if field.number == 0 {
        let type_meta = matches!(field.name, "kind" | "apiVersion");
        return if value.is_null() || type_meta {
            Ok(())
        } else {
            Err(ProtoError::Unsupported {
                ty: schema.name(ty),
                field: field.name,
            })
        };
    }
    let number = u32::from(field.number);
    match (field.container, value) {
        (Container::Single, Value::Null) if field.pointer || is_slice(field) => Ok(()),
        (Container::Single, value) => element(schema, out, number, ty, field, value),
        (Container::List, Value::Array(list)) => list
            .iter()
            .try_for_each(|v| element(schema, out, number, ty, field, v)),
        (Container::Map, Value::Object(map)) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            keys.into_iter().try_for_each(|key| {
                out.message(number, |w| {
                    w.bytes(1, key.as_bytes());
                    element(schema, w, 2, ty, field, &map[key])
                })
            })
        }
        _ => Ok(()),
    }
}

/// Byte strings and string lists are slices upstream: absent when they are nil.
fn is_slice(field: &Field) -> bool {
    matches!(field.shape, Shape::Scalar(Scalar::Bytes))
}

fn element(
    schema: &Schema,
    out: &mut Writer,
    number: u32,
    ty: TypeId,
    field: &Field,
    value: &Value,
) -> Result<(), ProtoError> {
    match field.shape {
        Shape::Message(inner) => out.message(number, |w| message(w, value, inner)),
        Shape::Scalar(scalar) => scalar::write(out, number, scalar, value).map_err(|why| ProtoError::Field {
            ty: schema.name(ty),
            field: field.name,
            why,
        }),
    }
}
