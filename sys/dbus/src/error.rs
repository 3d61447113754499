use std::io;
use std::path::PathBuf;

use crate::Malformed;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum DbusError {
    /// Nobody listens.
    #[error("connect to the D-Bus socket {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The other side does not take this process; its words.
    #[error("D-Bus authentication refused: {0}")]
    Refused(String),
    /// The connection broke, or the other side took too long.
    #[error("speak D-Bus")]
    Exchange(#[source] io::Error),
    /// What came is no D-Bus message.
    #[error("speak D-Bus")]
    Malformed(#[source] Malformed),
    /// A call failed.
    #[error("{member}: {name}: {message}")]
    Call {
        /// The method.
        member: String,
        /// The error's name.
        name: String,
        /// Its text; empty if it has none.
        message: String,
    },
    /// A call succeeded, and the descriptor that it is to give is missing.
    #[error("{member}: the answer has no descriptor")]
    NoDescriptor {
        /// The method.
        member: &'static str,
    },
}
