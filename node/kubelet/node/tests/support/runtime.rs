//! A container runtime with one running container, whose streaming server echoes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;

use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use knode_cri::*;
use knode_kubelet_node::{PodEviction, PodSource};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

pub struct FakeRuntime {
    pub network_ready: Mutex<bool>,
    pub running: Mutex<bool>,
    pub log_path: String,
    pub streams: SocketAddr,
    pub pod_cidr: Mutex<Option<String>>,
    pub executed: Mutex<Vec<ExecRequest>>,
    /// Where images are said to be.
    pub image_path: Mutex<Option<String>>,
    pub removed_images: Mutex<Vec<String>>,
    events: broadcast::Sender<ContainerEventResponse>,
}

impl FakeRuntime {
    pub async fn start(log_path: &str) -> std::sync::Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let streams = listener.local_addr().unwrap();
        tokio::spawn(echo(listener));
        std::sync::Arc::new(Self {
            network_ready: Mutex::new(true),
            running: Mutex::new(true),
            log_path: log_path.to_owned(),
            streams,
            pod_cidr: Mutex::default(),
            executed: Mutex::default(),
            image_path: Mutex::default(),
            removed_images: Mutex::default(),
            events: broadcast::Sender::new(16),
        })
    }

    pub fn end_container(&self) {
        *self.running.lock().unwrap() = false;
        let event = ContainerEventResponse {
            container_id: "c1".to_owned(),
            container_event_type: ContainerEventType::ContainerStoppedEvent as i32,
            ..Default::default()
        };
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}

/// Answers every request by switching protocols and sending back what it gets.
async fn echo(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            assert!(
                !head.to_lowercase().contains("authorization"),
                "credentials are not passed on: {head}"
            );
            let answer =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
        });
    }
}

macro_rules! implement {
    ($service:ident for $fake:ident; served { $($served:tt)* } unserved { $($name:ident($request:ident) -> $response:ident;)* }) => {
        #[async_trait]
        impl $service for $fake {
            $($served)*
            $(async fn $name(&self, _: $request) -> CriResult<$response> {
                Err(CriError::unimplemented(stringify!($name)))
            })*
        }
    };
}

implement! {
    RuntimeService for FakeRuntime;
    served {
        async fn version(&self, _: VersionRequest) -> CriResult<VersionResponse> {
            Ok(VersionResponse {
                runtime_name: "knode".to_owned(),
                runtime_version: "0.1.0".to_owned(),
                ..Default::default()
            })
        }

        async fn status(&self, _: StatusRequest) -> CriResult<StatusResponse> {
            let condition = |kind: &str, status| RuntimeCondition {
                r#type: kind.to_owned(),
                status,
                reason: if status { "" } else { "NetworkPluginNotReady" }.to_owned(),
                message: if status { "" } else { "no subnet yet" }.to_owned(),
            };
            let network = *self.network_ready.lock().unwrap();
            let conditions = vec![condition("RuntimeReady", true), condition("NetworkReady", network)];
            Ok(StatusResponse { status: Some(RuntimeStatus { conditions }), ..Default::default() })
        }

        async fn container_status(&self, request: ContainerStatusRequest) -> CriResult<ContainerStatusResponse> {
            if request.container_id != "c1" {
                return Err(CriError::not_found("no such container"));
            }
            let running = *self.running.lock().unwrap();
            let state = if running { ContainerState::ContainerRunning } else { ContainerState::ContainerExited };
            let status = ContainerStatus {
                id: request.container_id,
                state: state as i32,
                log_path: self.log_path.clone(),
                ..Default::default()
            };
            Ok(ContainerStatusResponse { status: Some(status), ..Default::default() })
        }

        async fn list_containers(&self, _: ListContainersRequest) -> CriResult<ListContainersResponse> {
            let container = Container { id: "c1".to_owned(), image_ref: "sha256:1".to_owned(), ..Default::default() };
            Ok(ListContainersResponse { containers: vec![container] })
        }

        async fn exec(&self, request: ExecRequest) -> CriResult<ExecResponse> {
            self.executed.lock().unwrap().push(request);
            Ok(ExecResponse { url: format!("http://{}/exec/token", self.streams) })
        }

        async fn update_runtime_config(
            &self,
            request: UpdateRuntimeConfigRequest,
        ) -> CriResult<UpdateRuntimeConfigResponse> {
            let network = request.runtime_config.and_then(|config| config.network_config);
            *self.pod_cidr.lock().unwrap() = network.map(|network| network.pod_cidr);
            Ok(UpdateRuntimeConfigResponse::default())
        }

        async fn container_events(&self) -> CriResult<ContainerEvents> {
            let receiver = self.events.subscribe();
            let events = futures::stream::unfold(receiver, |mut receiver| async {
                receiver.recv().await.ok().map(|event| (Ok(event), receiver))
            });
            Ok(events.boxed())
        }
    }
    unserved {
        run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
        stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
        remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
        pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
        list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
        create_container(CreateContainerRequest) -> CreateContainerResponse;
        start_container(StartContainerRequest) -> StartContainerResponse;
        stop_container(StopContainerRequest) -> StopContainerResponse;
        remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
        update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
        reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
        exec_sync(ExecSyncRequest) -> ExecSyncResponse;
        attach(AttachRequest) -> AttachResponse;
        port_forward(PortForwardRequest) -> PortForwardResponse;
        container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
        list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
        pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
        list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
        checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
        list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
        list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
        runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
        update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
    }
}

implement! {
    ImageService for FakeRuntime;
    served {
        async fn list_images(&self, _: ListImagesRequest) -> CriResult<ListImagesResponse> {
            let image = Image {
                id: "sha256:1".to_owned(),
                repo_tags: vec!["docker.io/library/web:1".to_owned()],
                size: 5,
                ..Default::default()
            };
            let other = |id: &str, pinned| Image { id: id.to_owned(), size: 3, pinned, ..Default::default() };
            let mut images = vec![image, other("sha256:2", false), other("sha256:3", true)];
            let removed = self.removed_images.lock().unwrap();
            images.retain(|image| !removed.contains(&image.id));
            Ok(ListImagesResponse { images })
        }

        async fn remove_image(&self, request: RemoveImageRequest) -> CriResult<RemoveImageResponse> {
            self.removed_images.lock().unwrap().push(request.image.unwrap().image);
            Ok(RemoveImageResponse {})
        }

        async fn image_fs_info(&self, _: ImageFsInfoRequest) -> CriResult<ImageFsInfoResponse> {
            let path = self.image_path.lock().unwrap().clone();
            let usage = path.map(|mountpoint| FilesystemUsage {
                fs_id: Some(FilesystemIdentifier { mountpoint }),
                ..Default::default()
            });
            Ok(ImageFsInfoResponse { image_filesystems: usage.into_iter().collect(), ..Default::default() })
        }
    }
    unserved {
        image_status(ImageStatusRequest) -> ImageStatusResponse;
        pull_image(PullImageRequest) -> PullImageResponse;
    }
}

/// One pod with one running container.
#[derive(Default)]
pub struct OnePod {
    pub evicted: Mutex<Vec<(String, PodEviction)>>,
    /// The images that it was told last.
    pub images: Mutex<BTreeSet<String>>,
}

#[async_trait]
impl PodSource for OnePod {
    async fn evict(&self, uid: &str, eviction: PodEviction) -> bool {
        self.evicted.lock().unwrap().push((uid.to_owned(), eviction));
        true
    }

    async fn images_listed(&self, present: &BTreeSet<String>, _: jiff::Timestamp) {
        *self.images.lock().unwrap() = present.clone();
    }

    fn pods(&self) -> Vec<std::sync::Arc<Pod>> {
        if !self.evicted.lock().unwrap().is_empty() {
            return Vec::new();
        }
        let pod = json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [{"name": "c", "image": "i"}, {"name": "new", "image": "i"}]},
            "status": {"containerStatuses": [
                {
                    "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                    "containerID": "knode://c1", "state": {"running": {}},
                },
                {
                    "name": "new", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "ContainerCreating"}},
                },
            ]},
        });
        vec![std::sync::Arc::new(serde_json::from_value(pod).unwrap())]
    }
}
