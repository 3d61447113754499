//! Bytes or values to objects that hold what upstream's types would hold: unknown fields out (and reported),
//! nulls out, quantities and times canonical, fields that upstream always writes present.
pub(crate) mod canonical;
mod context;
mod element;
mod seed;
mod syntax;

pub(crate) use element::BASE64;
pub(crate) use syntax::explain;

use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::schema::TypeId;
use context::Context;
use seed::{Seed, Slot};

/// A decoded object.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object in canonical form.
    pub value: Value,
    /// What strict decoding objects to, in document order: `unknown field "spec.foo"`,
    /// `duplicate field "metadata.name"`. One `Warning` header each where validation only warns.
    pub strict: Vec<String>,
}

/// Why a document is no object of its type, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON (or YAML) at all.
    #[error("{0}")]
    Syntax(String),
    /// A value of the wrong type: `json: cannot unmarshal …`, a bad quantity or time.
    #[error("{0}")]
    Type(String),
}

/// `kind` and `apiVersion` of a document, empty where absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TypeMeta {
    /// `apps/v1`, or `v1` of the core group.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
}

/// `strict decoding error: a, b`, the message where strict validation refuses.
pub fn strict_error(strict: &[String]) -> String {
    format!("strict decoding error: {}", strict.join(", "))
}

/// Reads a JSON document as `ty`.
///
/// # Errors
/// See [`DecodeError`].
pub fn json(bytes: &[u8], ty: TypeId) -> Result<Decoded, DecodeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut context = Context::new();
    let seed = Seed {
        context: &mut context,
        slot: Slot::Message(ty),
    };
    let result = seed
        .deserialize(&mut deserializer)
        .and_then(|v| deserializer.end().map(|()| v));
    context.finish(result, ty, |e| {
        DecodeError::Syntax(syntax::explain(bytes).unwrap_or(e))
    })
}

/// Reads a YAML document as `ty`.
///
/// # Errors
/// See [`DecodeError`].
pub fn yaml(bytes: &[u8], ty: TypeId) -> Result<Decoded, DecodeError> {
    let mut context = Context::new();
    let seed = Seed {
        context: &mut context,
        slot: Slot::Message(ty),
    };
    let result = seed.deserialize(serde_norway::Deserializer::from_slice(bytes));
    context.finish(result, ty, |e| {
        DecodeError::Syntax(format!("error converting YAML to JSON: yaml: {e}"))
    })
}

/// Brings a value (a patch's outcome) into the form of `ty`.
///
/// # Errors
/// See [`DecodeError`].
pub fn value(value: Value, ty: TypeId) -> Result<Decoded, DecodeError> {
    let mut context = Context::new();
    let seed = Seed {
        context: &mut context,
        slot: Slot::Message(ty),
    };
    let result = seed.deserialize(value);
    context.finish(result, ty, DecodeError::Syntax)
}

/// `kind` and `apiVersion` of a JSON document.
///
/// # Errors
/// `couldn't get version/kind; json parse error: …`.
pub fn type_meta(bytes: &[u8]) -> Result<TypeMeta, DecodeError> {
    serde_json::from_slice(bytes).map_err(|e| {
        let why = syntax::explain(bytes).unwrap_or_else(|| e.to_string());
        DecodeError::Syntax(format!("couldn't get version/kind; json parse error: {why}"))
    })
}

/// `kind` and `apiVersion` of a YAML document.
///
/// # Errors
/// As [`type_meta`].
pub fn yaml_type_meta(bytes: &[u8]) -> Result<TypeMeta, DecodeError> {
    serde_norway::from_slice(bytes)
        .map_err(|e| DecodeError::Syntax(format!("couldn't get version/kind; json parse error: yaml: {e}")))
}

/// The start of a body that could not be read, as upstream's messages show it in parentheses.
pub fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let shown = &body[..body.len().min(SHOWN)];
    let text = match body.first() {
        None => return "<empty>".into(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => shown.iter().map(|b| format!("{b:02x}")).collect(),
    };
    if body.len() > SHOWN {
        format!("{text} ...")
    } else {
        text
    }
}

#[cfg(test)]
mod tests;
