//! The two service traits offered on a unix socket.

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::MAX_MESSAGE_BYTES;
use crate::methods::{image_methods, runtime_methods};
use crate::parts::{Parts, in_parts};
use crate::service::{ImageService, RuntimeService};
use crate::v1::image_service_server::{ImageService as ImageRpc, ImageServiceServer};
use crate::v1::runtime_service_server::{RuntimeService as RuntimeRpc, RuntimeServiceServer};
use crate::v1::*;

/// Why the socket is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process answers on the socket.
    #[error("socket {} is in use by another runtime", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket could not be created.
    #[error("binding socket {}", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The server ended with an error.
    #[error("serving on {}", path.display())]
    Serve {
        /// The socket.
        path: PathBuf,
        /// What the transport said.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Serves both services on the unix socket `socket` until `shutdown` completes: [`listen`] and
/// [`Listening::serve`].
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(
    socket: &Path,
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    listen(socket).await?.serve(runtime, images, shutdown).await
}

/// A socket that takes connections; they are answered once it is served.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

/// Makes the unix socket `socket` (mode 0660). A socket file left behind by a dead process is replaced.
///
/// # Errors
/// [`ServeError::InUse`], [`ServeError::Bind`].
pub async fn listen(socket: &Path) -> Result<Listening, ServeError> {
    Ok(Listening {
        listener: bind(socket).await?,
        path: socket.to_path_buf(),
    })
}

impl Listening {
    /// Serves both services until `shutdown` completes, and removes the socket.
    ///
    /// # Errors
    /// [`ServeError::Serve`].
    pub async fn serve(
        self,
        runtime: Arc<dyn RuntimeService>,
        images: Arc<dyn ImageService>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let runtime = RuntimeServiceServer::new(Runtime(runtime));
        let images = ImageServiceServer::new(Images(images));
        let served = tonic::transport::Server::builder()
            .add_service(runtime.max_decoding_message_size(MAX_MESSAGE_BYTES))
            .add_service(images.max_decoding_message_size(MAX_MESSAGE_BYTES))
            .serve_with_incoming_shutdown(UnixListenerStream::new(self.listener), shutdown)
            .await;
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(socket = %self.path.display(), %error, "socket was already gone");
        }
        served.map_err(|source| ServeError::Serve {
            path: self.path,
            source,
        })
    }
}

/// The listener of a unix socket (mode 0660) of whatever API. A socket file left behind by a dead process is replaced.
///
/// # Errors
/// [`ServeError::InUse`], [`ServeError::Bind`].
pub async fn bind(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |source| ServeError::Bind {
        path: path.to_path_buf(),
        source,
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    if path.symlink_metadata().is_ok() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(ServeError::InUse {
                path: path.to_path_buf(),
            });
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

struct Runtime(Arc<dyn RuntimeService>);
struct Images(Arc<dyn ImageService>);

macro_rules! serve_runtime {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl RuntimeRpc for Runtime {
            $(async fn $name(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                Ok(Response::new(self.0.$name(request.into_inner()).await?))
            })*

            type GetContainerEventsStream = BoxStream<'static, Result<ContainerEventResponse, Status>>;

            async fn get_container_events(
                &self,
                _request: Request<GetEventsRequest>,
            ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
                let events = self.0.container_events().await?;
                Ok(Response::new(events.map(|event| event.map_err(Status::from)).boxed()))
            }

            type StreamPodSandboxesStream = Parts<StreamPodSandboxesResponse>;

            async fn stream_pod_sandboxes(
                &self,
                request: Request<StreamPodSandboxesRequest>,
            ) -> Result<Response<Self::StreamPodSandboxesStream>, Status> {
                let request = ListPodSandboxRequest { filter: request.into_inner().filter };
                let pod_sandboxes = self.0.list_pod_sandbox(request).await?.items;
                Ok(in_parts(pod_sandboxes, |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes }))
            }

            type StreamContainersStream = Parts<StreamContainersResponse>;

            async fn stream_containers(
                &self,
                request: Request<StreamContainersRequest>,
            ) -> Result<Response<Self::StreamContainersStream>, Status> {
                let request = ListContainersRequest { filter: request.into_inner().filter };
                let containers = self.0.list_containers(request).await?.containers;
                Ok(in_parts(containers, |containers| StreamContainersResponse { containers }))
            }

            type StreamContainerStatsStream = Parts<StreamContainerStatsResponse>;

            async fn stream_container_stats(
                &self,
                request: Request<StreamContainerStatsRequest>,
            ) -> Result<Response<Self::StreamContainerStatsStream>, Status> {
                let request = ListContainerStatsRequest { filter: request.into_inner().filter };
                let container_stats = self.0.list_container_stats(request).await?.stats;
                Ok(in_parts(container_stats, |container_stats| StreamContainerStatsResponse { container_stats }))
            }

            type StreamPodSandboxStatsStream = Parts<StreamPodSandboxStatsResponse>;

            async fn stream_pod_sandbox_stats(
                &self,
                request: Request<StreamPodSandboxStatsRequest>,
            ) -> Result<Response<Self::StreamPodSandboxStatsStream>, Status> {
                let request = ListPodSandboxStatsRequest { filter: request.into_inner().filter };
                let pod_sandbox_stats = self.0.list_pod_sandbox_stats(request).await?.stats;
                Ok(in_parts(pod_sandbox_stats, |pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats }))
            }

            type StreamPodSandboxMetricsStream = Parts<StreamPodSandboxMetricsResponse>;

            async fn stream_pod_sandbox_metrics(
                &self,
                _request: Request<StreamPodSandboxMetricsRequest>,
            ) -> Result<Response<Self::StreamPodSandboxMetricsStream>, Status> {
                let request = ListPodSandboxMetricsRequest {};
                let pod_sandbox_metrics = self.0.list_pod_sandbox_metrics(request).await?.pod_metrics;
                Ok(in_parts(pod_sandbox_metrics, |pod_sandbox_metrics| StreamPodSandboxMetricsResponse { pod_sandbox_metrics }))
            }
        }
    };
}

macro_rules! serve_images {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl ImageRpc for Images {
            $(async fn $name(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                Ok(Response::new(self.0.$name(request.into_inner()).await?))
            })*

            type StreamImagesStream = Parts<StreamImagesResponse>;

            async fn stream_images(
                &self,
                request: Request<StreamImagesRequest>,
            ) -> Result<Response<Self::StreamImagesStream>, Status> {
                let request = ListImagesRequest { filter: request.into_inner().filter };
                let images = self.0.list_images(request).await?.images;
                Ok(in_parts(images, |images| StreamImagesResponse { images }))
            }
        }
    };
}

runtime_methods!(serve_runtime);
image_methods!(serve_images);
