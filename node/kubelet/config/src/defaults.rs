//! What holds where nothing is set (upstream: `pkg/kubelet/apis/config/v1beta1/defaults.go`), and what may not be set.

use knode_api::time::{format_duration, parse_duration};
use serde_json::{Map, Value};

use crate::schema::{FIELDS, Field, Kind, Support};
use crate::{Error, Result};

/// Who set a field, for messages.
pub(crate) type Origin<'a> = &'a dyn Fn(&str) -> String;

/// Takes away what is the same as nothing, refuses what can't be followed, notes what has no effect, and puts the
/// defaults in.
///
/// # Errors
/// [`Error::Unsupported`].
pub(crate) fn complete(
    document: &mut Map<String, Value>,
    origin: Origin<'_>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    complete_object(FIELDS, document, "", origin, warnings)
}

fn complete_object(
    fields: &[Field],
    object: &mut Map<String, Value>,
    at: &str,
    origin: Origin<'_>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    for field in fields {
        let path = format!("{at}{}", field.name);
        let value = object.remove(field.name).filter(|value| counts(field, value));
        let value = value.map(|value| written(field.kind, value));
        if let Some(value) = complete_field(field, value, &path, origin, warnings)? {
            object.insert(field.name.to_owned(), value);
        }
    }
    Ok(())
}

fn complete_field(
    field: &Field,
    value: Option<Value>,
    path: &str,
    origin: Origin<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<Value>> {
    let default: Option<Value> = serde_json::from_str(field.default).ok();
    let same =
        |value: &Value| Some(value) == default.as_ref() || (default.is_none() && is_zero(field.kind, value));
    match (field.support, field.kind, value) {
        (Support::Honoured, Kind::Object(fields), value) => {
            let mut object = match value {
                Some(Value::Object(object)) => object,
                _ => Map::new(),
            };
            complete_object(fields, &mut object, &format!("{path}."), origin, warnings)?;
            Ok((!object.is_empty()).then_some(Value::Object(object)))
        }
        (Support::Honoured, _, value) => Ok(value.or(default)),
        (_, _, None) => Ok(default),
        (Support::Only(others, reason), _, Some(value)) => {
            let also = |text: &&str| serde_json::from_str::<Value>(text).is_ok_and(|other| other == value);
            if same(&value) || others.iter().any(also) {
                return Ok(Some(value));
            }
            Err(Error::Unsupported {
                origin: origin(path),
                path: path.to_owned(),
                value: value.to_string(),
                reason,
            })
        }
        (Support::NoEffect(reason), _, Some(value)) => {
            if !same(&value) {
                warnings.push(format!(
                    "{}: {path}: {value} has no effect: {reason}",
                    origin(path)
                ));
            }
            Ok(default)
        }
    }
}

/// Whether a value says anything: in Go, zeros of fields that are no pointers don't.
fn counts(field: &Field, value: &Value) -> bool {
    !value.is_null() && (field.zero_counts || !is_zero(field.kind, value))
}

fn is_zero(kind: Kind, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => match kind {
            Kind::Duration | Kind::Interval => parse_duration(text).is_none_or(|time| time.is_zero()),
            Kind::Quantity => text.is_empty() || text == "0",
            _ => text.is_empty(),
        },
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

/// A duration as Go writes it, everything else as it is.
fn written(kind: Kind, value: Value) -> Value {
    match (kind, value.as_str().and_then(parse_duration)) {
        (Kind::Duration, Some(time)) => format_duration(time).into(),
        _ => value,
    }
}
