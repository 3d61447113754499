use std::path::PathBuf;

use crate::DbusError;

/// Why the manager did not do it.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// Nobody listens, or the manager does not take this process.
    #[error("speak with systemd at {path}")]
    Connect {
        /// The manager's socket.
        path: PathBuf,
        /// Why.
        source: DbusError,
    },
    /// The connection broke, or the manager said nothing in time.
    #[error("ask systemd for {call}")]
    Call {
        /// The manager's method.
        call: &'static str,
        /// Why.
        source: DbusError,
    },
    /// A unit of this name is already there; its state does not matter.
    #[error("systemd has a unit {unit} already")]
    UnitExists {
        /// The unit.
        unit: String,
    },
    /// No unit of this name is loaded or can be.
    #[error("systemd refuses {call}: {message}")]
    NoSuchUnit {
        /// The manager's method.
        call: &'static str,
        /// The manager's words.
        message: String,
    },
    /// The manager says no.
    #[error("systemd refuses {call}: {message}")]
    Refused {
        /// The manager's method.
        call: &'static str,
        /// Its words.
        message: String,
    },
    /// The manager tried, and it did not succeed.
    #[error("systemd could not {verb} {unit}: {result}")]
    Job {
        /// What was to be done.
        verb: &'static str,
        /// The unit.
        unit: String,
        /// How the job ended, as `JobRemoved` has it: "failed", "canceled", "timeout", …
        result: String,
    },
}
