//! `/containerLogs/…`: container logs in CRI format, once or as they grow.

mod end;
mod line;
mod options;
mod source;
mod stream;
mod tail;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use knode_cri::ContainerStatusRequest;
use tokio::sync::mpsc;

pub use line::{LineSplitter, LogLine, LogWriter};
pub use options::{BadOptions, LogOptions, StreamKind};
pub use stream::copy_log;

use super::Kubelet;
use super::body::{Answer, TEXT, text};
use super::route::Target;
use crate::pods::{PodLookupError, has_container, log_container_id};

/// Pieces of a log that may wait for a slow client.
const BACKLOG: usize = 8;

pub(super) async fn container_logs(kubelet: &Kubelet, target: &Target, query: &[(String, String)]) -> Answer {
    let options = match LogOptions::parse(query, kubelet.clock.now()) {
        Ok(options) => options,
        Err(error) => return text(StatusCode::from(&error), error.to_string()),
    };
    let id = match container(kubelet, target, options.previous) {
        Ok(id) => id,
        Err(error) if error.is_not_found() => return text(StatusCode::NOT_FOUND, error.to_string()),
        Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let path = match log_path(kubelet, &id).await {
        Ok(path) => path,
        Err(reason) => return text(StatusCode::BAD_REQUEST, reason),
    };
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(BACKLOG);
    let ended = end::container_end(kubelet.runtime.clone(), id);
    tokio::spawn(async move {
        // The error tells the client, by breaking off, that the log is not whole.
        if let Err(error) = copy_log(&path, &options, ended, &sender).await {
            let _ = sender.send(Err(error)).await;
        }
    });
    streamed(receiver)
}

fn streamed(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Answer {
    let pieces = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data)));
    let mut answer = Response::new(body.boxed_unsync());
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    answer
}

fn container(kubelet: &Kubelet, target: &Target, previous: bool) -> Result<String, PodLookupError> {
    let pod = kubelet.pods.pod(&target.namespace, &target.pod);
    let pod = pod.ok_or_else(|| PodLookupError::NoPod(target.pod.clone()))?;
    if !has_container(&pod, &target.container) {
        let (container, pod) = (target.container.clone(), target.pod.clone());
        return Err(PodLookupError::NoContainer { container, pod });
    }
    log_container_id(&pod, &target.container, previous)
}

async fn log_path(kubelet: &Kubelet, id: &str) -> Result<PathBuf, String> {
    let request = ContainerStatusRequest {
        container_id: id.to_owned(),
        verbose: false,
    };
    let unable = |reason: String| format!("unable to retrieve container logs for {id}: {reason}");
    let answer = kubelet
        .runtime
        .container_status(request)
        .await
        .map_err(|error| unable(error.to_string()))?;
    let path = answer.status.map(|status| status.log_path).unwrap_or_default();
    if path.is_empty() {
        return Err(unable("the runtime names no log file".to_owned()));
    }
    Ok(PathBuf::from(path))
}
