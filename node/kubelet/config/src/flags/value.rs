//! Values of flags to those of fields.

use serde_json::{Map, Value, json};

use crate::schema::{Field, Kind};

/// Reads a flag's text for a field; the answer is checked against the field's form afterwards.
///
/// # Errors
/// What the text should be.
pub(super) fn read(field: &Field, flag: &str, text: &str) -> Result<Value, String> {
    match field.kind {
        Kind::Bool => switch(text).map(Value::Bool),
        Kind::Int(..) => text
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| "not a whole number".into()),
        Kind::Share => text
            .parse::<f64>()
            .map(Value::from)
            .map_err(|_| "not a number".into()),
        Kind::Texts | Kind::Ips => Ok(list(text).into()),
        Kind::Ints => {
            let numbers: Result<Vec<i64>, _> = list(text).iter().map(|one| one.parse()).collect();
            numbers
                .map(Value::from)
                .map_err(|_| "not whole numbers with commas between".into())
        }
        Kind::TextMap => map(text, between(flag), |value| Ok(value.into())),
        Kind::BoolMap => map(text, '=', |value| switch(value).map(Value::Bool)),
        Kind::Objects(_) => taints(text),
        _ => Ok(text.into()),
    }
}

/// Whether a field's values of several flags are put together.
pub(super) fn adds(field: &Field) -> bool {
    matches!(
        field.kind,
        Kind::Texts | Kind::Ips | Kind::Ints | Kind::TextMap | Kind::BoolMap | Kind::Objects(_)
    )
}

/// Puts a later value of the same flag to the earlier ones.
pub(super) fn add(earlier: &mut Value, later: Value) {
    match (earlier, later) {
        (Value::Array(earlier), Value::Array(later)) => earlier.extend(later),
        (Value::Object(earlier), Value::Object(later)) => earlier.extend(later),
        (earlier, later) => *earlier = later,
    }
}

/// As Go's `ParseBool`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err("neither true nor false".into()),
    }
}

fn list(text: &str) -> Vec<&str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

/// Limits are written with `<`.
fn between(flag: &str) -> char {
    if matches!(flag, "eviction-hard" | "eviction-soft") {
        '<'
    } else {
        '='
    }
}

fn map(text: &str, between: char, value: impl Fn(&str) -> Result<Value, String>) -> Result<Value, String> {
    let mut map = Map::new();
    for part in list(text) {
        let Some((name, of)) = part.split_once(between) else {
            return Err(format!("{part:?} is not of the form NAME{between}VALUE"));
        };
        map.insert(name.trim().to_owned(), value(of.trim())?);
    }
    Ok(map.into())
}

/// `KEY=VALUE:EFFECT,…`; the value may be missing.
fn taints(text: &str) -> Result<Value, String> {
    let taint = |part: &str| {
        let wrong = || format!("{part:?} is not of the form KEY=VALUE:EFFECT");
        let (name, effect) = part.rsplit_once(':').ok_or_else(wrong)?;
        let (key, value) = name.split_once('=').unwrap_or((name, ""));
        if key.is_empty() || effect.is_empty() {
            return Err(wrong());
        }
        Ok(json!({"key": key, "value": value, "effect": effect}))
    };
    let taints: Result<Vec<Value>, String> = list(text).into_iter().map(taint).collect();
    taints.map(Value::from)
}
