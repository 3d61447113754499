//! A runtime behind a unix socket as the two service traits.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::MAX_MESSAGE_BYTES;
use crate::error::{CriError, CriResult};
use crate::methods::{image_methods, runtime_methods};
use crate::service::{ContainerEvents, ImageService, RuntimeService};
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::v1::*;

/// A runtime reached over its socket. Cheap to clone; reconnects by itself when the runtime comes back.
#[derive(Clone, Debug)]
pub struct RemoteRuntime {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

/// Connects to the CRI socket at `socket` (a path, with or without `unix://`).
///
/// # Errors
/// `Unavailable` when nothing answers there.
pub async fn connect(socket: impl AsRef<Path>) -> CriResult<RemoteRuntime> {
    let path = socket_path(socket.as_ref());
    let channel = channel(&path).await.map_err(|error| {
        CriError::unavailable(format!("connecting to runtime at {}: {error}", path.display()))
    })?;
    Ok(RemoteRuntime {
        runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
        images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES),
    })
}

/// A gRPC channel to whoever serves on the unix socket at `path`, of whatever API. It connects again by itself.
///
/// # Errors
/// The transport's, when nothing answers there now.
pub async fn channel(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_path_buf();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await
}

/// Between two tries to reach who does not serve yet.
const AGAIN: Duration = Duration::from_millis(100);

/// As [`channel`], for whoever may begin to serve within `bound` only, as a plugin that registers first.
///
/// # Errors
/// The last try's, which may itself have taken longer than `bound`.
pub async fn channel_within(path: &Path, bound: Duration) -> Result<Channel, tonic::transport::Error> {
    let end = tokio::time::Instant::now() + bound;
    loop {
        match channel(path).await {
            Err(error) if tokio::time::Instant::now() + AGAIN < end => {
                tracing::debug!(path = %path.display(), error = crate::chain(&error), "trying again");
                tokio::time::sleep(AGAIN).await;
            }
            other => return other,
        }
    }
}

/// How long the runtime may take for a call (upstream: `--runtime-request-timeout`).
const TIMEOUT: Duration = Duration::from_secs(120);

/// A call that may take longer than this has no limit.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a call may take, by upstream's rules: making a sandbox twice as long, ending a container its grace besides,
/// a command as long as it may run; pulls and commands without a limit as long as they like.
fn bound(request: &dyn Any) -> Option<Duration> {
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let bound = if request.is::<PullImageRequest>() {
        None
    } else if request.is::<RunPodSandboxRequest>() {
        Some(TIMEOUT * 2)
    } else if let Some(stop) = request.downcast_ref::<StopContainerRequest>() {
        Some(TIMEOUT.saturating_add(seconds(stop.timeout)))
    } else if let Some(exec) = request.downcast_ref::<ExecSyncRequest>() {
        (exec.timeout > 0).then(|| TIMEOUT.saturating_add(seconds(exec.timeout)))
    } else {
        Some(TIMEOUT)
    };
    bound.filter(|bound| *bound <= LONG)
}

fn bounded<T: Any>(message: T) -> Request<T> {
    let bound = bound(&message);
    let mut request = Request::new(message);
    if let Some(bound) = bound {
        request.set_timeout(bound);
    }
    request
}

fn socket_path(given: &Path) -> PathBuf {
    match given.to_str().and_then(|text| text.strip_prefix("unix://")) {
        Some(stripped) => PathBuf::from(stripped),
        None => given.to_path_buf(),
    }
}

macro_rules! forward_runtime {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        #[async_trait]
        impl RuntimeService for RemoteRuntime {
            $(async fn $name(&self, request: $request) -> CriResult<$response> {
                Ok(self.runtime.clone().$name(bounded(request)).await?.into_inner())
            })*

            async fn container_events(&self) -> CriResult<ContainerEvents> {
                let stream = self.runtime.clone().get_container_events(GetEventsRequest {}).await?.into_inner();
                Ok(stream.map(|event| event.map_err(CriError::from)).boxed())
            }
        }
    };
}

macro_rules! forward_images {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        #[async_trait]
        impl ImageService for RemoteRuntime {
            $(async fn $name(&self, request: $request) -> CriResult<$response> {
                Ok(self.images.clone().$name(bounded(request)).await?.into_inner())
            })*
        }
    };
}

runtime_methods!(forward_runtime);
image_methods!(forward_images);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_the_time_that_upstream_gives_it() {
        let stop = StopContainerRequest {
            timeout: 30,
            ..Default::default()
        };
        assert_eq!(bound(&stop), Some(Duration::from_secs(150)));
        assert_eq!(
            bound(&RunPodSandboxRequest::default()),
            Some(Duration::from_secs(240))
        );
        assert_eq!(bound(&PullImageRequest::default()), None);
        assert_eq!(bound(&ExecSyncRequest::default()), None);
        assert_eq!(bound(&VersionRequest::default()), Some(TIMEOUT));
        let late = StopContainerRequest {
            timeout: i64::MAX,
            ..Default::default()
        };
        assert_eq!(bound(&late), None, "no overflow");
    }
}
