//! Probes that only connect.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::ProbeOutcome;

/// Connects, in the words of Go's dialer if it fails.
pub(super) async fn probe(host: &str, port: u16, limit: Duration) -> ProbeOutcome {
    match connect(host, port, limit).await {
        Ok(_) => ProbeOutcome::Success,
        Err(text) => ProbeOutcome::Failure(text),
    }
}

pub(super) async fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, String> {
    let place = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    match timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {place}: connect: {}", reason(&error))),
        Err(_) => Err(format!("dial tcp {place}: i/o timeout")),
    }
}

/// The kernel's reason without Rust's number in brackets, in lower case as Go prints it.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
