//! Options of policies.

/// An option that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum OptionError {
    #[error("unknown {what} policy option: {name:?}")]
    Unknown { what: &'static str, name: String },
    #[error("{what} policy option {name:?} is not supported")]
    Unsupported { what: &'static str, name: String },
    #[error("bad value for option {name:?}: {value:?} is neither true nor false")]
    Value { name: String, value: String },
    #[error("bad value for option {name:?}: {value:?} is no number from 8 to 16")]
    Range { name: String, value: String },
    #[error("{0}")]
    Together(&'static str),
}

/// What Go's `ParseBool` takes.
pub(crate) fn truth(name: &str, value: &str) -> Result<bool, OptionError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(OptionError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
    }
}
