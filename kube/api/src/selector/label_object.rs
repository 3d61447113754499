//! `metav1.LabelSelector` objects.
use serde_json::Value;

use super::{LabelSelector, Operator, Requirement};

/// A selector object that says nothing sensible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelSelectorError {
    /// An operator that there is not.
    #[error("\"{0}\" is not a valid label selector operator")]
    Operator(String),
}

impl LabelSelector {
    /// Reads `{matchLabels, matchExpressions}`; absent (or null) matches nothing, an empty one everything.
    ///
    /// # Errors
    /// An operator that is none of In, NotIn, Exists, DoesNotExist.
    pub fn from_object(object: Option<&Value>) -> Result<Self, LabelSelectorError> {
        let Some(object) = object.filter(|o| !o.is_null()) else {
            return Ok(Self::nothing());
        };
        let mut selector = object
            .get("matchLabels")
            .and_then(Value::as_object)
            .map(Self::from_map)
            .unwrap_or_default();
        for expression in object
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            selector.requirements.push(requirement(expression)?);
        }
        selector.requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(selector)
    }
}

fn requirement(expression: &Value) -> Result<Requirement, LabelSelectorError> {
    let text = |key: &str| expression.get(key).and_then(Value::as_str).unwrap_or_default();
    let operator = match text("operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(LabelSelectorError::Operator(other.into())),
    };
    let mut values: Vec<String> = expression
        .get("values")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(String::from))
        .collect();
    values.sort();
    values.dedup();
    Ok(Requirement {
        key: text("key").into(),
        operator,
        values,
        exact: false,
    })
}
