//! Errors of CRI calls: a gRPC code and a message, whether the call left the process or not.

use std::fmt;

pub use tonic::Code;
use tonic::Status;

/// Result of a CRI call.
pub type CriResult<T> = Result<T, CriError>;

/// A failed CRI call. `Display` is the runtime's message alone; [`CriError::rpc_text`] adds the code the
/// way gRPC clients print it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CriError {
    /// gRPC status code.
    pub code: Code,
    /// What went wrong, for a person.
    pub message: String,
}

/// An error and its causes in one line, without what a level merely repeats.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl CriError {
    /// An error with this code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The request names something that cannot be, whatever the state of the runtime.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// The sandbox, container or image does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// The name is taken.
    pub fn already_exists(message: impl Into<String>) -> Self {
        Self::new(Code::AlreadyExists, message)
    }

    /// The object is in a state that forbids the call.
    pub fn failed_precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }

    /// The call exists and this runtime does not serve it.
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, message)
    }

    /// The call ran past its time.
    pub fn deadline(message: impl Into<String>) -> Self {
        Self::new(Code::DeadlineExceeded, message)
    }

    /// The runtime cannot be reached or is not ready.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// Anything else that failed inside the runtime (upstream runtimes answer `Unknown`).
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Code::Unknown, message)
    }

    /// The whole chain of `error` as one message with code `Unknown`.
    pub fn from_chain(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::unknown(chain(error))
    }

    /// True for [`Code::NotFound`].
    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }

    /// `rpc error: code = NotFound desc = …`, as it appears in events and statuses of upstream nodes.
    pub fn rpc_text(&self) -> String {
        format!(
            "rpc error: code = {} desc = {}",
            CodeName(self.code),
            self.message
        )
    }
}

/// Prints a code with the name gRPC's Go clients give it.
struct CodeName(Code);

impl fmt::Display for CodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Code::Cancelled => f.write_str("Canceled"),
            Code::Ok => f.write_str("OK"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl From<Status> for CriError {
    fn from(status: Status) -> Self {
        Self::new(status.code(), status.message())
    }
}

/// Longest message that is sent, in bytes: it travels in a header, percent-encoded, and one that is too large ends the
/// whole connection.
const MAX_SENT: usize = 2048;

impl From<CriError> for Status {
    fn from(error: CriError) -> Self {
        Status::new(error.code, shortened(error.message))
    }
}

fn shortened(message: String) -> String {
    if message.len() <= MAX_SENT {
        return message;
    }
    let end = message.floor_char_boundary(MAX_SENT);
    format!("{} … ({} bytes)", &message[..end], message.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_fits_a_header() {
        let status = Status::from(CriError::not_found("é".repeat(100_000)));
        assert!(
            status.message().len() < MAX_SENT + 40,
            "{}",
            status.message().len()
        );
        assert!(
            status.message().ends_with("(200000 bytes)"),
            "{}",
            status.message()
        );
        assert_eq!(Status::from(CriError::not_found("short")).message(), "short");
    }

    #[test]
    fn rpc_text_is_what_go_clients_print() {
        let error = CriError::not_found("failed to find image \"x\"");
        assert_eq!(
            error.rpc_text(),
            "rpc error: code = NotFound desc = failed to find image \"x\""
        );
        let cancelled = CriError::new(Code::Cancelled, "gone");
        assert_eq!(cancelled.rpc_text(), "rpc error: code = Canceled desc = gone");
    }

    #[test]
    fn codes_survive_the_wire() {
        let error = CriError::deadline("too slow");
        assert_eq!(CriError::from(Status::from(error.clone())), error);
    }
}
