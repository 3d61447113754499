//! The service on its socket.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use knode_client::Clock;
use knode_cri::server::ServeError;
use tonic::{Request, Response, Status};

use super::limit::Limit;
use super::v1::pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer};
use super::v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, GetPodResourcesRequest,
    GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
};
use super::{Given, answer};
use crate::manager::Devices;
use crate::serve::serve;

/// Nobody can ask.
#[derive(Debug, thiserror::Error)]
#[error("serving the pod-resources API")]
pub struct PodResourcesError(#[source] ServeError);

/// The pod-resources API.
pub struct PodResources {
    devices: Arc<Devices>,
    given: Arc<dyn Given>,
    clock: Arc<dyn Clock>,
    limit: Mutex<Limit>,
}

impl PodResources {
    /// Tells of these.
    pub fn new(devices: Arc<Devices>, given: Arc<dyn Given>, clock: Arc<dyn Clock>) -> Self {
        let limit = Mutex::new(Limit::new(clock.monotonic()));
        Self {
            devices,
            given,
            clock,
            limit,
        }
    }

    /// Serves on `socket` (upstream: `/var/lib/kubelet/pod-resources/kubelet.sock`) for as long as it is polled.
    ///
    /// # Errors
    /// [`PodResourcesError`].
    pub async fn serve(self, socket: &Path) -> Result<Infallible, PodResourcesError> {
        let service = PodResourcesListerServer::new(self);
        let router = tonic::transport::Server::builder().add_service(service);
        serve(socket, router).await.map_err(PodResourcesError)
    }

    fn limited(&self) -> Result<(), Status> {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        match limit.take(self.clock.monotonic()) {
            true => Ok(()),
            false => Err(Status::resource_exhausted("rejected by rate limit")),
        }
    }
}

#[tonic::async_trait]
impl PodResourcesLister for PodResources {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.limited()?;
        let pods = self.given.pods();
        let of = |pod: &Arc<_>| answer::pod(&self.devices, self.given.as_ref(), pod);
        Ok(Response::new(ListPodResourcesResponse {
            pod_resources: pods.iter().map(of).collect(),
        }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        self.limited()?;
        let all = answer::allocatable(&self.devices, self.given.as_ref());
        Ok(Response::new(all))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        self.limited()?;
        let request = request.into_inner();
        let pods = self.given.pods();
        let found = pods.iter().find(|pod| {
            pod.metadata.name.as_deref() == Some(&request.pod_name)
                && pod.metadata.namespace.as_deref() == Some(&request.pod_namespace)
        });
        let Some(pod) = found else {
            return Err(Status::unknown(format!(
                "pod {} in namespace {} not found",
                request.pod_name, request.pod_namespace
            )));
        };
        let answer = answer::pod(&self.devices, self.given.as_ref(), pod);
        Ok(Response::new(GetPodResourcesResponse {
            pod_resources: Some(answer),
        }))
    }
}
