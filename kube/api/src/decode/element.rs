//! Scalars in their canonical form.
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, PAD};
use serde_json::{Number, Value};

use crate::quantity::Quantity;
use crate::schema::Scalar;
use crate::time;

/// Padded, standard alphabet.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, PAD);

/// Why a value is not of the type at hand.
pub(super) enum Refused {
    /// Another type; carries what was found.
    Type(String),
    /// The type's own reader says why.
    Message(String),
}

/// A JSON number where `scalar` is due.
pub(super) fn number(scalar: Scalar, number: Number) -> Result<Value, Refused> {
    let whole = number.as_i64();
    match scalar {
        Scalar::Int64 if whole.is_some() => Ok(Value::Number(number)),
        Scalar::Int32 if whole.is_some_and(|n| i32::try_from(n).is_ok()) => Ok(Value::Number(number)),
        Scalar::Int32 | Scalar::Int64 => Err(Refused::Type(format!("number {number}"))),
        Scalar::IntOrString if whole.is_some_and(|n| i32::try_from(n).is_ok()) => Ok(Value::Number(number)),
        Scalar::IntOrString => Err(Refused::Message(format!(
            "json: cannot unmarshal number {number} into Go value of type int32"
        ))),
        Scalar::Double => Ok(Value::Number(number)),
        Scalar::Quantity => quantity(&number.to_string()),
        _ => Err(Refused::Type("number".into())),
    }
}

/// A JSON string where `scalar` is due.
pub(super) fn string(scalar: Scalar, text: String) -> Result<Value, Refused> {
    match scalar {
        Scalar::String | Scalar::IntOrString | Scalar::Duration => Ok(Value::String(text)),
        Scalar::Quantity => quantity(text.trim()),
        Scalar::Time => moment(&text, time::rfc3339),
        Scalar::MicroTime => moment(&text, time::rfc3339_micro),
        Scalar::Bytes => bytes(text),
        _ => Err(Refused::Type("string".into())),
    }
}

fn quantity(text: &str) -> Result<Value, Refused> {
    match Quantity::parse(text) {
        Ok(quantity) => Ok(Value::String(quantity.to_string())),
        Err(e) => Err(Refused::Message(e.to_string())),
    }
}

fn moment(text: &str, print: fn(jiff::Timestamp) -> String) -> Result<Value, Refused> {
    match time::parse(text) {
        Ok(t) => Ok(Value::String(print(t))),
        Err(e) => Err(Refused::Message(e.to_string())),
    }
}

/// Checks base64; line breaks in it are dropped.
fn bytes(text: String) -> Result<Value, Refused> {
    let text = if text.contains(['\r', '\n']) {
        text.replace(['\r', '\n'], "")
    } else {
        text
    };
    match BASE64.decode(&text) {
        Ok(_) => Ok(Value::String(text)),
        Err(e) => Err(Refused::Message(format!(
            "illegal base64 data at input byte {}",
            bad_byte(&e, text.len())
        ))),
    }
}

fn bad_byte(e: &base64::DecodeError, len: usize) -> usize {
    match e {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => len - len % 4,
    }
}
