//! Bytes to values.
use serde_json::{Map, Value};

use super::wire::{Content, Reader};
use super::{ProtoError, scalar};
use crate::decode::canonical;
use crate::schema::{Container, Field, Scalar, Schema, Shape, TypeId, schema};

type Object = Map<String, Value>;

/// Reads a message of `ty` to its canonical object.
pub(super) fn message(bytes: &[u8], ty: TypeId) -> Result<Object, ProtoError> {
    let schema = schema();
    let mut out = Object::new();
    fields(schema, bytes, ty, 0, &mut out)?;
    let settled = schema.fields(ty).iter();
    for field in settled.filter(|f| !f.pointer && !f.always && f.container == Container::Single) {
        if let Some(value) = out.remove(field.name)
            && let Some(value) = canonical::settle(schema, field, value)
        {
            out.insert(field.name.into(), value);
        }
    }
    canonical::complete(schema, ty, &mut out);
    Ok(out)
}

/// Reads the fields that stand directly in the message (`via` 0), or in the one that wraps some of them.
fn fields(schema: &Schema, bytes: &[u8], ty: TypeId, via: u16, out: &mut Object) -> Result<(), ProtoError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, content)) = reader.field()? {
        let known = schema
            .fields(ty)
            .iter()
            .find(|f| u32::from(f.number) == number && f.via == via);
        if let Some(field) = known.filter(|f| f.number != 0) {
            self::field(schema, ty, field, content, out)?;
        } else if via == 0 {
            let wrapped = schema.fields(ty).iter().any(|f| u32::from(f.via) == number);
            if let (true, Ok(number)) = (wrapped, u16::try_from(number)) {
                fields(schema, content.bytes()?, ty, number, out)?;
            }
        }
    }
    Ok(())
}

fn field(
    schema: &Schema,
    ty: TypeId,
    field: &Field,
    content: Content<'_>,
    out: &mut Object,
) -> Result<(), ProtoError> {
    match field.container {
        Container::Single => {
            let value = element(schema, ty, field, content)?;
            if value.is_null() && !field.always {
                out.remove(field.name);
            } else {
                out.insert(field.name.into(), value);
            }
        }
        Container::List => {
            let values = elements(schema, ty, field, content)?;
            match out.entry(field.name).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(list) => list.extend(values),
                other => *other = Value::Array(values),
            }
        }
        Container::Map => {
            let (key, value) = entry(schema, ty, field, content)?;
            match out
                .entry(field.name)
                .or_insert_with(|| Value::Object(Object::new()))
            {
                Value::Object(map) => {
                    map.insert(key, value);
                }
                other => *other = Value::Object(Object::from_iter([(key, value)])),
            }
        }
    }
    Ok(())
}

fn element(schema: &Schema, ty: TypeId, field: &Field, content: Content<'_>) -> Result<Value, ProtoError> {
    match field.shape {
        Shape::Message(inner) => message(content.bytes()?, inner).map(Value::Object),
        Shape::Scalar(scalar) => self::scalar(schema, ty, field, scalar, content),
    }
}

fn scalar(
    schema: &Schema,
    ty: TypeId,
    field: &Field,
    scalar: Scalar,
    content: Content<'_>,
) -> Result<Value, ProtoError> {
    scalar::read(scalar, content).map_err(|why| ProtoError::Field {
        ty: schema.name(ty),
        field: field.name,
        why,
    })
}

fn elements(
    schema: &Schema,
    ty: TypeId,
    field: &Field,
    content: Content<'_>,
) -> Result<Vec<Value>, ProtoError> {
    if let (Shape::Scalar(kind), Content::Bytes(bytes)) = (field.shape, content)
        && scalar::is_packable(kind)
    {
        let mut reader = Reader::new(bytes);
        let mut out = Vec::new();
        while let Some(n) = reader.packed()? {
            out.push(self::scalar(
                schema,
                ty,
                field,
                kind,
                Content::Varint(n.cast_unsigned()),
            )?);
        }
        return Ok(out);
    }
    Ok(vec![element(schema, ty, field, content)?])
}

fn entry(
    schema: &Schema,
    ty: TypeId,
    field: &Field,
    content: Content<'_>,
) -> Result<(String, Value), ProtoError> {
    let mut key = String::new();
    let mut value = None;
    let mut reader = Reader::new(content.bytes()?);
    while let Some((number, content)) = reader.field()? {
        match number {
            1 => key = String::from_utf8_lossy(content.bytes()?).into_owned(),
            2 => value = Some(element(schema, ty, field, content)?),
            _ => {}
        }
    }
    Ok((
        key,
        value.unwrap_or_else(|| canonical::zero_element(schema, field)),
    ))
}
