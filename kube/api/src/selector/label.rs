//! What a label selector asks, and matching.
use std::fmt;

use serde_json::{Map, Value};

use super::SelectorError;

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// `=` and `==` too: one value.
    In,
    /// `!=` too; satisfied where the label is absent.
    NotIn,
    /// A whole number above the one value.
    GreaterThan,
    /// A whole number below the one value.
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's name.
    pub key: String,
    /// How it compares.
    pub operator: Operator,
    /// Sorted, each once.
    pub values: Vec<String>,
    /// Whether it was written with `=`, `==` or `!=`, and prints so.
    pub exact: bool,
}

/// All requirements must hold; none at all matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub(super) requirements: Vec<Requirement>,
    pub(super) nothing: bool,
}

impl LabelSelector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches nothing: a `LabelSelector` object that is absent.
    pub fn nothing() -> Self {
        LabelSelector {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Reads `a=b,c!=d,e in (f,g),!h`.
    ///
    /// # Errors
    /// Upstream's words.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        super::label_parse::parse(text)
    }

    /// Equality with each entry of a map of strings, such as a Service's selector.
    pub fn from_map(labels: &Map<String, Value>) -> Self {
        let requirements = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.as_str().unwrap_or_default().to_string()],
                exact: true,
            })
            .collect();
        LabelSelector {
            requirements,
            nothing: false,
        }
    }

    /// Whether it asks nothing at all, so that everything matches.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The requirements, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object with these `metadata.labels` is meant; `None` stands for no labels.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let get = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
        self.matches_with(get)
    }

    /// Whether an object is meant whose labels `get` looks up.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(get(&r.key)))
    }

    /// Whether an object is meant, by its `metadata.labels`.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(object.pointer("/metadata/labels").and_then(Value::as_object))
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|w| w == v);
        match self.operator {
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::GreaterThan => self.compares(value, |a, b| a > b),
            Operator::LessThan => self.compares(value, |a, b| a < b),
        }
    }

    fn compares(&self, value: Option<&str>, test: fn(i64, i64) -> bool) -> bool {
        let left = value.and_then(|v| v.parse().ok());
        let right = self.values.first().and_then(|v| v.parse().ok());
        matches!((left, right), (Some(a), Some(b)) if test(a, b))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.values.first().map_or("", String::as_str);
        match self.operator {
            Operator::Exists => f.write_str(&self.key),
            Operator::DoesNotExist => write!(f, "!{}", self.key),
            Operator::In if self.exact => write!(f, "{}={first}", self.key),
            Operator::NotIn if self.exact => write!(f, "{}!={first}", self.key),
            Operator::In => write!(f, "{} in ({})", self.key, self.values.join(",")),
            Operator::NotIn => write!(f, "{} notin ({})", self.key, self.values.join(",")),
            Operator::GreaterThan => write!(f, "{}>{first}", self.key),
            Operator::LessThan => write!(f, "{}<{first}", self.key),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            r.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
