//! Requests by path, with JSON as it is.

use kube::{Client, Error as ApiError};
use serde_json::Value;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Creates.
    Create,
    /// Replaces.
    Update,
    /// Merges (RFC 7386).
    Merge,
    /// Deletes; the body holds the options.
    Delete,
}

/// Sends a request to the API server.
///
/// # Errors
/// The server's answer, or that there was none.
pub async fn send(client: &Client, verb: Verb, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
    let (method, content) = match verb {
        Verb::Get => ("GET", "application/json"),
        Verb::Create => ("POST", "application/json"),
        Verb::Update => ("PUT", "application/json"),
        Verb::Merge => ("PATCH", "application/merge-patch+json"),
        Verb::Delete => ("DELETE", "application/json"),
    };
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content)
        .body(body.into_bytes())
        .map_err(ApiError::HttpError)?;
    client.request(request).await
}
