//! Answers.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use knode_api::status::Status;
use serde::Serialize;

use crate::http::Body;

pub(crate) const CONTENT_TYPE_JSON: &str = "application/json";

/// A request that fails, with the Status that says why.
pub(crate) type Failure = Box<Status>;
/// An answer or a failure.
pub(crate) type Outcome = Result<Response<Body>, Failure>;

/// An answer with these bytes.
pub(crate) fn plain(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer with JSON that is encoded already.
pub(crate) fn json_bytes(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    plain(code, CONTENT_TYPE_JSON, body)
}

/// An answer in JSON.
pub(crate) fn json(code: StatusCode, body: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(body) {
        Ok(bytes) => json_bytes(code, bytes),
        Err(error) => failure(&Status::internal(error)),
    }
}

/// What the mux says of a path that nobody serves.
pub(crate) fn not_found_page() -> Response<Body> {
    plain(
        StatusCode::NOT_FOUND,
        "text/plain; charset=utf-8",
        "404 page not found\n",
    )
}

/// The answer to a request that failed.
pub(crate) fn failure(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = plain(code, CONTENT_TYPE_JSON, status.to_value().to_string());
    if let Some(seconds) = status
        .details
        .as_ref()
        .map(|d| d.retry_after_seconds)
        .filter(|s| *s > 0)
    {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
