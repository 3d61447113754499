//! Bodies of requests and answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use knode_api::status::Status;

use crate::http::Failure;

/// Any error of a transport.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request, whatever the transport.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Upstream's limit for the bodies of requests.
const MAX_REQUEST: usize = 3 << 20;

/// The body of an answer.
pub struct Body(UnsyncBoxBody<Bytes, BoxError>);

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

impl Body {
    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(
            Full::new(bytes.into())
                .map_err(|never| match never {})
                .boxed_unsync(),
        )
    }

    /// Bytes as they come; an error ends the answer early.
    pub fn stream(stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Self {
        let frames = futures::StreamExt::map(stream, |chunk| chunk.map(Frame::data));
        Self(StreamBody::new(frames).boxed_unsync())
    }

    /// The body of a request that is passed on.
    pub(crate) fn of_request(body: RequestBody) -> Self {
        Self(body)
    }

    /// The body of somebody else's answer.
    pub fn wrap(body: impl http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static) -> Self {
        Self(body.map_err(Into::into).boxed_unsync())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}

/// The whole body of a request.
pub(crate) async fn read_body(mut body: RequestBody) -> Result<Bytes, Failure> {
    let mut chunks = Vec::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Status::bad_request(format!("unable to read the request: {error}")))?;
        if let Ok(data) = frame.into_data() {
            size += data.len();
            chunks.push(data);
        }
        if size > MAX_REQUEST {
            return Err(Status::too_large(MAX_REQUEST).into());
        }
    }
    Ok(if chunks.len() == 1 {
        chunks.swap_remove(0)
    } else {
        chunks.concat().into()
    })
}
