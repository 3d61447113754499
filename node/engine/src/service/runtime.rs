//! `runtime.v1.RuntimeService`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use knode_cri::*;

use super::{filter, info};
use crate::engine::{Core, Engine, now_nanos};
use crate::error::{EngineError, Result};

/// Version of the CRI that `Version` has always answered, which is not that of the API.
const KUBE_API_VERSION: &str = "0.1.0";

/// Succeeds for an object that is not there.
fn known<T>(found: Result<T>) -> CriResult<Option<T>> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(EngineError::SandboxNotFound(_) | EngineError::ContainerNotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What only those are told who ask for more.
fn info<F>(verbose: bool, tell: F) -> std::collections::HashMap<String, String>
where
    F: FnOnce() -> serde_json::Value,
{
    if verbose {
        [("info".to_string(), tell().to_string())].into()
    } else {
        Default::default()
    }
}

/// Runs something that reads many files where it may block.
async fn blocking<T, F>(core: &Arc<Core>, work: F) -> CriResult<T>
where
    T: Send + 'static,
    F: FnOnce(&Core) -> T + Send + 'static,
{
    let core = core.clone();
    tokio::task::spawn_blocking(move || work(&core))
        .await
        .map_err(|error| EngineError::from(error).into())
}

/// Runs something to its end even if the caller goes away in the middle.
async fn to_the_end<T, F>(work: F) -> CriResult<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    tokio::spawn(work)
        .await
        .map_err(EngineError::from)?
        .map_err(CriError::from)
}

#[async_trait]
impl RuntimeService for Engine {
    async fn version(&self, _request: VersionRequest) -> CriResult<VersionResponse> {
        Ok(VersionResponse {
            version: KUBE_API_VERSION.into(),
            runtime_name: "knode".into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: API_VERSION.into(),
        })
    }

    async fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> CriResult<RunPodSandboxResponse> {
        let core = self.core.clone();
        let pod_sandbox_id = to_the_end(async move { core.run_sandbox(request).await }).await?;
        Ok(RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(&self, request: StopPodSandboxRequest) -> CriResult<StopPodSandboxResponse> {
        if let Some(sandbox) = known(self.core.sandbox(&request.pod_sandbox_id))? {
            let core = self.core.clone();
            to_the_end(async move { core.stop_sandbox(&sandbox).await }).await?;
        }
        Ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: RemovePodSandboxRequest,
    ) -> CriResult<RemovePodSandboxResponse> {
        if let Some(sandbox) = known(self.core.sandbox(&request.pod_sandbox_id))? {
            let core = self.core.clone();
            to_the_end(async move { core.remove_sandbox(&sandbox).await }).await?;
        }
        Ok(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> CriResult<PodSandboxStatusResponse> {
        let sandbox = self.core.sandbox(&request.pod_sandbox_id)?;
        let containers = self.core.containers_of(&sandbox.id);
        Ok(PodSandboxStatusResponse {
            status: Some(sandbox.status()),
            info: info(request.verbose, || info::sandbox(&self.core, &sandbox)),
            containers_statuses: containers.iter().map(|container| container.status()).collect(),
            timestamp: now_nanos(),
        })
    }

    async fn list_pod_sandbox(&self, request: ListPodSandboxRequest) -> CriResult<ListPodSandboxResponse> {
        let all = self.core.sandboxes();
        let items = all.iter().map(|sandbox| sandbox.to_cri());
        let mut items: Vec<PodSandbox> = items
            .filter(|item| filter::sandbox(item, request.filter.as_ref()))
            .collect();
        items.sort_by_key(|item| std::cmp::Reverse(item.created_at));
        Ok(ListPodSandboxResponse { items })
    }

    async fn create_container(&self, request: CreateContainerRequest) -> CriResult<CreateContainerResponse> {
        let core = self.core.clone();
        let container_id = to_the_end(async move { core.create_container(request).await }).await?;
        Ok(CreateContainerResponse { container_id })
    }

    async fn start_container(&self, request: StartContainerRequest) -> CriResult<StartContainerResponse> {
        let container = self.core.container(&request.container_id)?;
        let core = self.core.clone();
        to_the_end(async move { core.start_container(&container).await }).await?;
        Ok(StartContainerResponse {})
    }

    async fn stop_container(&self, request: StopContainerRequest) -> CriResult<StopContainerResponse> {
        if let Some(container) = known(self.core.container(&request.container_id))? {
            let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
            self.core.stop_container(&container, grace).await?;
        }
        Ok(StopContainerResponse {})
    }

    async fn remove_container(&self, request: RemoveContainerRequest) -> CriResult<RemoveContainerResponse> {
        if let Some(container) = known(self.core.container(&request.container_id))? {
            let core = self.core.clone();
            to_the_end(async move { core.remove_container(&container).await }).await?;
        }
        Ok(RemoveContainerResponse {})
    }

    async fn list_containers(&self, request: ListContainersRequest) -> CriResult<ListContainersResponse> {
        let all = self.core.containers();
        let items = all.iter().map(|container| container.to_cri());
        let mut containers: Vec<Container> = items
            .filter(|item| filter::container(item, request.filter.as_ref()))
            .collect();
        containers.sort_by_key(|item| std::cmp::Reverse(item.created_at));
        Ok(ListContainersResponse { containers })
    }

    async fn container_status(&self, request: ContainerStatusRequest) -> CriResult<ContainerStatusResponse> {
        let container = self.core.container(&request.container_id)?;
        Ok(ContainerStatusResponse {
            status: Some(container.status()),
            info: info(request.verbose, || info::container(&self.core, &container)),
        })
    }

    async fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> CriResult<UpdateContainerResourcesResponse> {
        let container = self.core.container(&request.container_id)?;
        if let Some(resources) = request.linux {
            self.core.update_container(&container, resources).await?;
        }
        Ok(UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: ReopenContainerLogRequest,
    ) -> CriResult<ReopenContainerLogResponse> {
        let container = self.core.container(&request.container_id)?;
        self.core.reopen_log(&container).await?;
        Ok(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: ExecSyncRequest) -> CriResult<ExecSyncResponse> {
        let container = self.core.container(&request.container_id)?;
        let core = self.core.clone();
        to_the_end(async move { core.exec_sync(&container, &request.cmd, request.timeout).await }).await
    }

    async fn exec(&self, request: ExecRequest) -> CriResult<ExecResponse> {
        Ok(ExecResponse {
            url: self.core.exec_url(request)?,
        })
    }

    async fn attach(&self, request: AttachRequest) -> CriResult<AttachResponse> {
        Ok(AttachResponse {
            url: self.core.attach_url(request)?,
        })
    }

    async fn port_forward(&self, request: PortForwardRequest) -> CriResult<PortForwardResponse> {
        Ok(PortForwardResponse {
            url: self.core.port_forward_url(request)?,
        })
    }

    async fn container_stats(&self, request: ContainerStatsRequest) -> CriResult<ContainerStatsResponse> {
        let container = self.core.container(&request.container_id)?;
        let stats = blocking(&self.core, move |core| core.container_stats(&container)).await?;
        Ok(ContainerStatsResponse { stats: Some(stats) })
    }

    async fn list_container_stats(
        &self,
        request: ListContainerStatsRequest,
    ) -> CriResult<ListContainerStatsResponse> {
        let stats = blocking(&self.core, move |core| {
            let all = core.containers();
            let wanted = all.iter().filter(|container| {
                let item = container.to_cri();
                item.state() == ContainerState::ContainerRunning
                    && filter::container_stats(&item, request.filter.as_ref())
            });
            wanted.map(|container| core.container_stats(container)).collect()
        });
        Ok(ListContainerStatsResponse { stats: stats.await? })
    }

    async fn pod_sandbox_stats(&self, request: PodSandboxStatsRequest) -> CriResult<PodSandboxStatsResponse> {
        let sandbox = self.core.sandbox(&request.pod_sandbox_id)?;
        let stats = blocking(&self.core, move |core| core.sandbox_stats(&sandbox)).await?;
        Ok(PodSandboxStatsResponse { stats: Some(stats) })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: ListPodSandboxStatsRequest,
    ) -> CriResult<ListPodSandboxStatsResponse> {
        let stats = blocking(&self.core, move |core| {
            let all = core.sandboxes();
            let wanted = all.iter().filter(|sandbox| {
                sandbox.is_ready() && filter::sandbox_stats(&sandbox.to_cri(), request.filter.as_ref())
            });
            wanted.map(|sandbox| core.sandbox_stats(sandbox)).collect()
        });
        Ok(ListPodSandboxStatsResponse { stats: stats.await? })
    }

    async fn update_runtime_config(
        &self,
        request: UpdateRuntimeConfigRequest,
    ) -> CriResult<UpdateRuntimeConfigResponse> {
        let network = request.runtime_config.and_then(|config| config.network_config);
        if let Some(network) = network.filter(|network| !network.pod_cidr.is_empty()) {
            self.core.config.network.pod_cidr(&network.pod_cidr).await;
        }
        Ok(UpdateRuntimeConfigResponse {})
    }

    async fn status(&self, request: StatusRequest) -> CriResult<StatusResponse> {
        let network = self.core.config.network.status().await;
        let ready = RuntimeCondition {
            r#type: "RuntimeReady".into(),
            status: true,
            ..Default::default()
        };
        let network = RuntimeCondition {
            r#type: "NetworkReady".into(),
            status: network.ready,
            reason: network.reason,
            message: network.message,
        };
        let features = RuntimeHandlerFeatures {
            recursive_read_only_mounts: true,
            user_namespaces: self.core.machine.user_namespaces,
        };
        Ok(StatusResponse {
            status: Some(RuntimeStatus {
                conditions: vec![ready, network],
            }),
            info: info(request.verbose, || info::engine(&self.core)),
            runtime_handlers: self.core.config.runtimes.handlers(features).await,
            features: Some(RuntimeFeatures {
                supplemental_groups_policy: true,
                ..Default::default()
            }),
        })
    }

    async fn checkpoint_container(
        &self,
        _request: CheckpointContainerRequest,
    ) -> CriResult<CheckpointContainerResponse> {
        Err(EngineError::Unsupported("checkpointing a container".into()).into())
    }

    async fn list_metric_descriptors(
        &self,
        _request: ListMetricDescriptorsRequest,
    ) -> CriResult<ListMetricDescriptorsResponse> {
        Ok(ListMetricDescriptorsResponse {
            descriptors: crate::container::metrics::descriptors(),
        })
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _request: ListPodSandboxMetricsRequest,
    ) -> CriResult<ListPodSandboxMetricsResponse> {
        let metrics = blocking(&self.core, |core| {
            let ready = core.sandboxes().into_iter().filter(|sandbox| sandbox.is_ready());
            ready.map(|sandbox| core.sandbox_metrics(&sandbox)).collect()
        });
        Ok(ListPodSandboxMetricsResponse {
            pod_metrics: metrics.await?,
        })
    }

    async fn runtime_config(&self, _request: RuntimeConfigRequest) -> CriResult<RuntimeConfigResponse> {
        let driver = match self.core.config.cgroup_driver {
            crate::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
            crate::CgroupDriver::Systemd => CgroupDriver::Systemd,
        };
        let linux = LinuxRuntimeConfiguration {
            cgroup_driver: driver as i32,
        };
        Ok(RuntimeConfigResponse { linux: Some(linux) })
    }

    /// The kubelet changes the pod's control group itself, and there is no sandbox container to follow: what it says
    /// is remembered.
    async fn update_pod_sandbox_resources(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> CriResult<UpdatePodSandboxResourcesResponse> {
        let sandbox = self.core.sandbox(&request.pod_sandbox_id)?;
        let core = self.core.clone();
        let work = async move {
            core.update_sandbox(&sandbox, request.overhead, request.resources)
                .await
        };
        to_the_end(work).await?;
        Ok(UpdatePodSandboxResourcesResponse {})
    }

    async fn container_events(&self) -> CriResult<ContainerEvents> {
        Ok(self.core.events.subscribe())
    }
}
