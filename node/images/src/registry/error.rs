//! What goes wrong between here and a registry.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a registry's directory (`certs.d/<host>`) cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// `hosts.toml` is no TOML.
    #[error("{}: {reason}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// The parser's reason.
        reason: String,
    },
    /// A field of `hosts.toml` with a value that it cannot have.
    #[error("{field:?} of host {host:?} is invalid: {reason}")]
    Field {
        /// The host's name in the file, empty for the registry itself.
        host: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate or key that cannot be used.
    #[error("{}: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A registry's own words of what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// The status code.
    pub status: u16,
    /// `code: message` of each error that the answer lists, or the start of its text.
    pub reason: String,
    /// The answer lists an error that means "not here".
    pub absent: bool,
    /// When the registry wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// A request without a useful answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// No connection.
    #[error("{0}")]
    Connect(String),
    /// The TLS handshake failed.
    #[error("tls: {0}")]
    Tls(String),
    /// Nothing came in time.
    #[error("no {what} within {seconds} s")]
    Timeout { what: &'static str, seconds: u64 },
    /// The connection broke, or what came is no HTTP.
    #[error("{0}")]
    Broken(String),
    /// The registry said no.
    #[error("{}", .0.reason)]
    Refused(RegistryError),
    /// The registry wants credentials that there are none of, or others.
    #[error(
        "pull access denied, repository does not exist or may require authorization: authorization failed: {0}"
    )]
    Unauthorized(String),
    /// The token service said no.
    #[error("failed to authorize: {0}")]
    Token(String),
    /// A redirect that is not followed.
    #[error("redirect to {to:?} is not followed: {why}")]
    Redirect { to: String, why: &'static str },
    /// More came than was promised or is sensible.
    #[error("the registry sends more than {0} bytes")]
    TooMuch(u64),
    /// An answer to another question.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
    /// The endpoints' configuration cannot be used.
    #[error("invalid registry configuration: {0}")]
    Hosts(String),
}

impl RequestError {
    /// True for what may go away by itself.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Timeout { .. } | Self::Broken(_) => true,
            Self::Refused(refused) => matches!(refused.status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// True when no answer came at all.
    pub(crate) fn is_transport(&self) -> bool {
        matches!(
            self,
            Self::Connect(_) | Self::Tls(_) | Self::Timeout { .. } | Self::Broken(_)
        )
    }

    /// True for the answers that mean "not here".
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Refused(refused) if refused.absent || refused.status == 404)
    }

    /// When the registry wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refused) => refused.retry_after,
            _ => None,
        }
    }

    /// The reason, after "not found" where it is that.
    pub(crate) fn told(&self) -> String {
        match self.is_absent() {
            true => format!("not found: {self}"),
            false => self.to_string(),
        }
    }
}

/// The innermost cause of an error says most: `connection refused`, a TLS alert.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
