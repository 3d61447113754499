//! Bytes or values to objects that hold what upstream's types would hold: unknown fields out (and reported),
//! nulls out, quantities and times canonical, fields that upstream always writes present.
use serde_json::Value;

use crate::schema::TypeId;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeMeta {
    pub api_version: String,
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
    let value = serde_json::from_slice(bytes).map_err(|e| DecodeError::Syntax(e.to_string()))?;
    self::value(value, ty)
}

/// Reads a YAML document as `ty`.
///
/// # Errors
/// See [`DecodeError`].
pub fn yaml(bytes: &[u8], ty: TypeId) -> Result<Decoded, DecodeError> {
    let value = serde_norway::from_slice(bytes).map_err(|e| DecodeError::Syntax(e.to_string()))?;
    self::value(value, ty)
}

/// Brings a value (a patch's outcome) into the form of `ty`.
///
/// # Errors
/// See [`DecodeError`].
pub fn value(value: Value, _ty: TypeId) -> Result<Decoded, DecodeError> {
    Ok(Decoded {
        value,
        strict: Vec::new(),
    })
}

/// `kind` and `apiVersion` of a JSON document.
///
/// # Errors
/// `couldn't get version/kind; json parse error: …`.
pub fn type_meta(bytes: &[u8]) -> Result<TypeMeta, DecodeError> {
    let v: Value = serde_json::from_slice(bytes).map_err(|e| DecodeError::Syntax(e.to_string()))?;
    let text = |key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    Ok(TypeMeta {
        api_version: text("apiVersion"),
        kind: text("kind"),
    })
}

/// `kind` and `apiVersion` of a YAML document.
///
/// # Errors
/// As [`type_meta`].
pub fn yaml_type_meta(bytes: &[u8]) -> Result<TypeMeta, DecodeError> {
    let v: Value = serde_norway::from_slice(bytes).map_err(|e| DecodeError::Syntax(e.to_string()))?;
    let text = |key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    Ok(TypeMeta {
        api_version: text("apiVersion"),
        kind: text("kind"),
    })
}
