use serde_json::{Value, json};

use super::VERSIONS;
use crate::error::Error;

/// Why a call failed, as the specification numbers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CniError {
    pub code: u32,
    pub message: String,
    pub details: String,
}

impl CniError {
    pub const VERSION: u32 = 1;
    pub const UNSUPPORTED: u32 = 2;
    pub const UNKNOWN_CONTAINER: u32 = 3;
    pub const ENVIRONMENT: u32 = 4;
    pub const IO: u32 = 5;
    pub const DECODE: u32 = 6;
    pub const CONFIG: u32 = 7;
    pub const TRY_AGAIN: u32 = 11;
    pub const NOT_AVAILABLE: u32 = 50;
    /// The pod network failed.
    pub const FAILED: u32 = 100;

    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    pub fn json(&self, version: &str) -> Value {
        let version = if version.is_empty() {
            VERSIONS[VERSIONS.len() - 1]
        } else {
            version
        };
        json!({ "cniVersion": version, "code": self.code, "msg": self.message, "details": self.details })
    }
}

impl From<Error> for CniError {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NotReady | Error::Locked(_) | Error::Exhausted { .. } => Self::TRY_AGAIN,
            Error::LeaseFile { .. } => Self::IO,
            Error::Unsupported(_) => Self::UNSUPPORTED,
            Error::AddressOutside(_) => Self::CONFIG,
            _ => Self::FAILED,
        };
        let mut causes = Vec::new();
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            causes.push(next.to_string());
            cause = next.source();
        }
        Self {
            code,
            message: error.to_string(),
            details: causes.join(": "),
        }
    }
}
