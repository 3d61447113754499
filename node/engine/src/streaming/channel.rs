//! What every streaming protocol is turned into.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// How many messages may be under way in each direction; more wait, and so slow the sender down.
pub(super) const DEPTH: usize = 16;

/// What the client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClientEvent {
    /// Input.
    Stdin(Bytes),
    /// No more input.
    StdinEnd,
    /// Its window has another size.
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
}

/// An output of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Output {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What the process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerEvent {
    /// It prints.
    Data(Output, Bytes),
    /// It is over; nothing follows.
    End(Outcome),
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Well.
    Success,
    /// The command ended with a code other than 0.
    Exit {
        /// The code.
        code: i32,
        /// The command.
        command: Vec<String>,
    },
    /// It could not be done.
    Failed(String),
}

/// The engine's side of a stream.
pub(super) struct Ends {
    /// What the client does; it ends when the client is gone.
    pub(super) events: mpsc::Receiver<ClientEvent>,
    /// What the client is told.
    pub(super) output: mpsc::Sender<ServerEvent>,
}

/// The protocol's side of a stream.
pub(super) struct FarEnds {
    pub(super) events: mpsc::Sender<ClientEvent>,
    pub(super) output: mpsc::Receiver<ServerEvent>,
}

/// Both sides of a new stream.
pub(super) fn pair() -> (Ends, FarEnds) {
    let (event_sender, events) = mpsc::channel(DEPTH);
    let (output, output_receiver) = mpsc::channel(DEPTH);
    (
        Ends { events, output },
        FarEnds {
            events: event_sender,
            output: output_receiver,
        },
    )
}

/// Which client is being told: upstream's API server translates for WebSocket clients and says things in
/// its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// SPDY, in the words of the kubelet.
    Spdy,
    /// WebSocket, in the words of the API server.
    WebSocket,
}

impl Outcome {
    /// The `Status` object that versions 4 and 5 of the protocol carry.
    pub(super) fn status(&self, dialect: Dialect) -> Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::Exit { code, command } => {
                let text = match dialect {
                    Dialect::Spdy => {
                        format!(
                            "error executing command [{}], exit code {code}",
                            command.join(" ")
                        )
                    }
                    Dialect::WebSocket => format!("command terminated with exit code {code}"),
                };
                json!({
                    "metadata": {},
                    "status": "Failure",
                    "message": format!("command terminated with non-zero exit code: {text}"),
                    "reason": "NonZeroExitCode",
                    "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
                })
            }
            Self::Failed(message) => {
                let cause = match dialect {
                    Dialect::Spdy => message.clone(),
                    Dialect::WebSocket => format!("Internal error occurred: {message}"),
                };
                json!({
                    "metadata": {},
                    "status": "Failure",
                    "message": format!("Internal error occurred: {cause}"),
                    "reason": "InternalError",
                    "details": {"causes": [{"message": cause}]},
                    "code": 500,
                })
            }
        }
    }

    /// The plain text that earlier versions carry, nothing for success.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::Exit { code, command } => {
                format!(
                    "error executing command [{}], exit code {code}",
                    command.join(" ")
                )
            }
            Self::Failed(message) => message.clone(),
        }
    }
}

/// Reads a terminal size, `{"Width":80,"Height":24}`.
pub(super) fn resize(text: &[u8]) -> Option<ClientEvent> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let number = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_u64)
            .and_then(|value| u16::try_from(value).ok())
    };
    Some(ClientEvent::Resize {
        columns: number("Width")?,
        rows: number("Height")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_upstream() {
        let exit = Outcome::Exit {
            code: 3,
            command: vec!["sh".into(), "-c".into()],
        };
        let status = exit.status(Dialect::WebSocket);
        assert_eq!(
            status["message"],
            "command terminated with non-zero exit code: command terminated with exit code 3"
        );
        assert_eq!(status["details"]["causes"][0]["message"], "3");
        let spdy = exit.status(Dialect::Spdy)["message"].clone();
        assert_eq!(
            spdy,
            "command terminated with non-zero exit code: error executing command [sh -c], exit code 3"
        );
        let failed = Outcome::Failed("no".into()).status(Dialect::Spdy);
        assert_eq!(
            (failed["message"].as_str(), failed["code"].as_u64()),
            (Some("Internal error occurred: no"), Some(500))
        );
        assert_eq!(
            Outcome::Success.status(Dialect::Spdy).to_string(),
            r#"{"metadata":{},"status":"Success"}"#
        );
    }

    #[test]
    fn sizes_are_read() {
        let wanted = Some(ClientEvent::Resize {
            columns: 80,
            rows: 24,
        });
        assert_eq!(resize(b"{\"Width\":80,\"Height\":24}\n"), wanted);
        assert_eq!(resize(b"nonsense"), None);
    }
}
