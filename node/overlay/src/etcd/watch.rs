use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::range_end;
use super::wire::watch_request::RequestUnion;
use super::wire::{Event, WatchCreateRequest, WatchRequest, WatchResponse};

/// A watch of keys.
pub(crate) struct Watcher {
    stream: Streaming<WatchResponse>,
    /// The watch ends when its requests do.
    _requests: mpsc::Sender<WatchRequest>,
}

/// Why a watch ended.
#[derive(Debug)]
pub(crate) enum WatchEnd {
    /// What is to be followed is no longer kept: list again.
    Compacted(i64),
    /// etcd ended it.
    Cancelled(String),
    /// The connection broke.
    Broken(Option<tonic::Status>),
}

impl Watcher {
    /// What to send for a watch from this revision on.
    pub(super) fn requests(
        prefix: &str,
        revision: i64,
    ) -> (mpsc::Sender<WatchRequest>, ReceiverStream<WatchRequest>) {
        let (sender, receiver) = mpsc::channel(1);
        let create = WatchCreateRequest {
            key: prefix.into(),
            range_end: range_end(prefix.as_bytes()),
            start_revision: revision,
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        sender
            .try_send(request)
            .expect("an empty channel of one takes one");
        (sender, ReceiverStream::new(receiver))
    }

    pub(super) fn new(stream: Streaming<WatchResponse>, requests: mpsc::Sender<WatchRequest>) -> Self {
        Self {
            stream,
            _requests: requests,
        }
    }

    /// The next events, and the revision that they lead up to.
    pub async fn next(&mut self) -> Result<(Vec<Event>, i64), WatchEnd> {
        loop {
            let answer = match self.stream.next().await {
                Some(Ok(answer)) => answer,
                Some(Err(status)) => return Err(WatchEnd::Broken(Some(status))),
                None => return Err(WatchEnd::Broken(None)),
            };
            if answer.compact_revision > 0 {
                return Err(WatchEnd::Compacted(answer.compact_revision));
            }
            if answer.canceled {
                return Err(WatchEnd::Cancelled(answer.cancel_reason));
            }
            if !answer.events.is_empty() {
                return Ok((answer.events, answer.header.map_or(0, |h| h.revision)));
            }
        }
    }
}
