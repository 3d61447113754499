//! Scalars on the wire, each as the body of its field.
use base64::Engine;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::ProtoError;
use super::wire::{Content, Reader, Writer};
use crate::decode::BASE64;
use crate::quantity::Quantity;
use crate::schema::Scalar;
use crate::time;

/// Why a value cannot be; the caller adds the field.
pub(super) type Scalared<T> = Result<T, String>;

/// Whether repeated values may come packed into one field.
pub(super) fn is_packable(scalar: Scalar) -> bool {
    matches!(scalar, Scalar::Int32 | Scalar::Int64 | Scalar::Bool)
}

pub(super) fn read(scalar: Scalar, content: Content<'_>) -> Scalared<Value> {
    let bytes = || content.bytes().map_err(|e| e.to_string());
    Ok(match scalar {
        Scalar::String => text(bytes()?)?.into(),
        Scalar::Bool => (integer(content)? != 0).into(),
        Scalar::Int32 => i32::try_from(integer(content)?)
            .map_err(|e| e.to_string())?
            .into(),
        Scalar::Int64 => integer(content)?.into(),
        Scalar::Double => match content {
            Content::Fixed64(bits) => json!(f64::from_bits(bits)),
            _ => return Err("no double".into()),
        },
        Scalar::Bytes => BASE64.encode(bytes()?).into(),
        Scalar::Quantity => quantity(bytes()?)?,
        Scalar::IntOrString => int_or_string(bytes()?)?,
        Scalar::Time => timestamp(bytes()?)?.map_or(Value::Null, |t| time::rfc3339(t).into()),
        Scalar::MicroTime => timestamp(bytes()?)?.map_or(Value::Null, |t| time::rfc3339_micro(t).into()),
        Scalar::Duration => duration(bytes()?)?.into(),
        Scalar::RawExtension | Scalar::Json | Scalar::FieldsV1 => raw(bytes()?)?,
        Scalar::StringList => string_list(bytes()?)?,
    })
}

fn integer(content: Content<'_>) -> Scalared<i64> {
    content.integer().map_err(|e| e.to_string())
}

fn text(bytes: &[u8]) -> Scalared<String> {
    String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string())
}

/// The fields of a small message, handed to `take` one by one.
fn fields<'a>(bytes: &'a [u8], mut take: impl FnMut(u32, Content<'a>) -> Scalared<()>) -> Scalared<()> {
    let mut reader = Reader::new(bytes);
    while let Some((number, content)) = reader.field().map_err(|e| e.to_string())? {
        take(number, content)?;
    }
    Ok(())
}

fn quantity(bytes: &[u8]) -> Scalared<Value> {
    let mut out = String::from("0");
    fields(bytes, |number, content| {
        if number == 1 {
            let written = text(content.bytes().map_err(|e| e.to_string())?)?;
            out = Quantity::parse(&written).map_err(|e| e.to_string())?.to_string();
        }
        Ok(())
    })?;
    Ok(out.into())
}

fn int_or_string(bytes: &[u8]) -> Scalared<Value> {
    let (mut is_text, mut number_value, mut text_value) = (false, 0, String::new());
    fields(bytes, |number, content| {
        match number {
            1 => is_text = integer(content)? == 1,
            2 => number_value = integer(content)?,
            3 => text_value = text(content.bytes().map_err(|e| e.to_string())?)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(if is_text {
        text_value.into()
    } else {
        number_value.into()
    })
}

/// `None` for an empty message: no time.
fn timestamp(bytes: &[u8]) -> Scalared<Option<Timestamp>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    fields(bytes, |number, content| {
        match number {
            1 => seconds = integer(content)?,
            2 => nanos = i32::try_from(integer(content)?).map_err(|e| e.to_string())?,
            _ => {}
        }
        Ok(())
    })?;
    Timestamp::new(seconds, nanos)
        .map(Some)
        .map_err(|e| e.to_string())
}

fn duration(bytes: &[u8]) -> Scalared<String> {
    let mut nanos = 0;
    fields(bytes, |number, content| {
        if number == 1 {
            nanos = integer(content)?;
        }
        Ok(())
    })?;
    Ok(time::go_duration(nanos))
}

fn raw(bytes: &[u8]) -> Scalared<Value> {
    let mut out = Value::Null;
    fields(bytes, |number, content| {
        let body = content.bytes().map_err(|e| e.to_string())?;
        if number == 1 && !body.is_empty() {
            out = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        }
        Ok(())
    })?;
    Ok(out)
}

fn string_list(bytes: &[u8]) -> Scalared<Value> {
    let mut out = Vec::new();
    fields(bytes, |number, content| {
        if number == 1 {
            out.push(text(content.bytes().map_err(|e| e.to_string())?)?.into());
        }
        Ok(())
    })?;
    Ok(Value::Array(out))
}

/// Writes one value; null is the zero.
pub(super) fn write(out: &mut Writer, number: u32, scalar: Scalar, value: &Value) -> Scalared<()> {
    let string = value.as_str().unwrap_or_default();
    match scalar {
        Scalar::String => out.bytes(number, string.as_bytes()),
        Scalar::Bool => out.varint(number, i64::from(value.as_bool().unwrap_or_default())),
        Scalar::Int32 | Scalar::Int64 => out.varint(number, value.as_i64().unwrap_or_default()),
        Scalar::Double => out.double(number, value.as_f64().unwrap_or_default()),
        Scalar::Bytes => {
            let bytes = BASE64.decode(string).map_err(|e| e.to_string())?;
            out.bytes(number, &bytes);
        }
        Scalar::Quantity => {
            let text = if string.is_empty() { "0" } else { string };
            nested(out, number, |w| w.bytes(1, text.as_bytes()));
        }
        Scalar::IntOrString => nested(out, number, |w| {
            w.varint(1, i64::from(value.is_string()));
            w.varint(2, value.as_i64().unwrap_or_default());
            w.bytes(3, string.as_bytes());
        }),
        Scalar::Time | Scalar::MicroTime => write_time(out, number, value)?,
        Scalar::Duration => {
            let nanos = time::parse_go_duration(string).unwrap_or_default();
            nested(out, number, |w| w.varint(1, nanos));
        }
        Scalar::RawExtension | Scalar::Json | Scalar::FieldsV1 => nested(out, number, |w| {
            if !value.is_null() {
                w.bytes(1, value.to_string().as_bytes());
            }
        }),
        Scalar::StringList => nested(out, number, |w| {
            for item in value.as_array().into_iter().flatten() {
                w.bytes(1, item.as_str().unwrap_or_default().as_bytes());
            }
        }),
    }
    Ok(())
}

fn nested(out: &mut Writer, number: u32, write: impl FnOnce(&mut Writer)) {
    // The body itself cannot fail.
    let _ = out.message(number, |w| {
        write(w);
        Ok::<(), ProtoError>(())
    });
}

fn write_time(out: &mut Writer, number: u32, value: &Value) -> Scalared<()> {
    let Some(text) = value.as_str() else {
        nested(out, number, |_| {});
        return Ok(());
    };
    let t = time::parse(text).map_err(|e| e.to_string())?;
    nested(out, number, |w| {
        w.varint(1, t.as_second());
        w.varint(2, i64::from(t.subsec_nanosecond()));
    });
    Ok(())
}
