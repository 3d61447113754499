//! What is wrong with a field.
use std::fmt;

use serde_json::Value;

use crate::goname::quote;

/// The kinds of complaint, each with upstream's opening words and cause reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// A reference to what is not there.
    NotFound,
    /// A value is missing.
    Required,
    /// A value that must be there once stands there again.
    Duplicate,
    /// A value that breaks its rules.
    Invalid,
    /// A value that is none of those allowed.
    NotSupported,
    /// A value that must not be there, or must not change.
    Forbidden,
    /// A text or list that is longer than allowed.
    TooLong,
    /// More elements than allowed.
    TooMany,
    /// The check itself failed.
    Internal,
    /// A value of another type.
    TypeInvalid,
}

impl FieldErrorKind {
    /// The `reason` of a status cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One complaint about one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// The printed path, such as `spec.containers[0].image`.
    pub field: String,
    /// The offending value, where the kind quotes one.
    pub value: Option<Value>,
    /// What follows the value; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(
        kind: FieldErrorKind,
        field: impl fmt::Display,
        value: Option<Value>,
        detail: impl Into<String>,
    ) -> Self {
        FieldError {
            kind,
            field: field.to_string(),
            value,
            detail: detail.into(),
        }
    }

    /// `Required value[: detail]`.
    pub fn required(field: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, field, None, detail)
    }

    /// `Invalid value: <value>: detail`.
    pub fn invalid(field: impl fmt::Display, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, field, Some(value.into()), detail)
    }

    /// `Duplicate value: <value>`.
    pub fn duplicate(field: impl fmt::Display, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::Duplicate, field, Some(value.into()), "")
    }

    /// `Not found: <value>`.
    pub fn not_found(field: impl fmt::Display, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::NotFound, field, Some(value.into()), "")
    }

    /// `Forbidden: detail`.
    pub fn forbidden(field: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, field, None, detail)
    }

    /// `Unsupported value: <value>: supported values: "a", "b"`, in the order given (upstream's sets are sorted).
    pub fn not_supported(field: impl fmt::Display, value: impl Into<Value>, supported: &[&str]) -> Self {
        let names: Vec<_> = supported.iter().map(|s| quote(s)).collect();
        let detail = if names.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", names.join(", "))
        };
        Self::new(FieldErrorKind::NotSupported, field, Some(value.into()), detail)
    }

    /// `Too long: may not be more than <max> bytes`.
    pub fn too_long(field: impl fmt::Display, max: usize) -> Self {
        Self::new(
            FieldErrorKind::TooLong,
            field,
            None,
            format!("may not be more than {max} bytes"),
        )
    }

    /// `Too many: <actual>: must have at most <max> items`.
    pub fn too_many(field: impl fmt::Display, actual: usize, max: usize) -> Self {
        let detail = format!("must have at most {max} item{}", if max == 1 { "" } else { "s" });
        Self::new(FieldErrorKind::TooMany, field, Some(actual.into()), detail)
    }

    /// The complaint without its path.
    pub fn message(&self) -> String {
        let mut out = self.kind.words().to_string();
        if let Some(value) = &self.value {
            out.push_str(": ");
            out.push_str(&print_value(value));
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

fn print_value(value: &Value) -> String {
    match value {
        Value::String(s) => quote(s),
        other => other.to_string(),
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message())
    }
}

/// Several complaints as one text: alone as it is, else `[a, b]`; repeated ones once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for text in errors.iter().map(ToString::to_string) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        _ => format!("[{}]", texts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_upstream() {
        let e = FieldError::not_supported("spec.x", "No", &["Always", "Never"]);
        assert_eq!(
            e.to_string(),
            "spec.x: Unsupported value: \"No\": supported values: \"Always\", \"Never\""
        );
        assert_eq!(FieldError::required("a.b", "").to_string(), "a.b: Required value");
        assert_eq!(
            FieldError::invalid("p", 99999, "bad").message(),
            "Invalid value: 99999: bad"
        );
        assert_eq!(
            FieldError::invalid("p", serde_json::json!({"a": "c"}), "x").message(),
            "Invalid value: {\"a\":\"c\"}: x"
        );
        let two = [FieldError::required("a", ""), FieldError::required("b", "")];
        assert_eq!(aggregate(&two), "[a: Required value, b: Required value]");
    }
}
