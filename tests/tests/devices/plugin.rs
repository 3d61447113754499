//! A device plugin and a driver of dynamic resources, in the test's own process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream::BoxStream;
use knode_kubelet_devices::pod_resources::v1::pod_resources_lister_client::PodResourcesListerClient;
use knode_kubelet_devices::pod_resources::v1::{ListPodResourcesRequest, PodResources};
use knode_kubelet_devices::v1beta1::device_plugin_server::{DevicePlugin, DevicePluginServer};
use knode_kubelet_devices::v1beta1::registration_client::RegistrationClient;
use knode_kubelet_devices::v1beta1::*;
use knode_kubelet_dra::v1 as dra;
use knode_kubelet_dra::v1::dra_plugin_server::{DraPlugin, DraPluginServer};
use knode_kubelet_plugins::v1::registration_server::{Registration, RegistrationServer};
use knode_kubelet_plugins::v1::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};

/// The directory of a kubelet's sockets, and what serves in it.
pub struct Plugins {
    kubelet: PathBuf,
    runtime: Runtime,
}

impl Plugins {
    pub fn new(data_dir: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Self {
            kubelet: Path::new(data_dir).join("kubelet"),
            runtime: runtime.unwrap(),
        }
    }

    fn serve(&self, socket: &Path, router: Router) {
        let _inside = self.runtime.enter();
        let listener = UnixListener::bind(socket).unwrap();
        self.runtime.spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            router.serve_with_incoming(incoming).await.unwrap();
        });
    }

    /// Serves beside the kubelet's socket and registers there; the kubelet's answer.
    pub fn register(&self, plugin: &Devices, resource: &str) -> Result<(), String> {
        let directory = self.kubelet.join("device-plugins");
        let server = tonic::transport::Server::builder();
        let own = directory.join("p.sock");
        if !own.exists() {
            self.serve(
                &own,
                { server }.add_service(DevicePluginServer::new(plugin.clone())),
            );
        }
        let request = RegisterRequest {
            version: VERSION.to_owned(),
            endpoint: "p.sock".to_owned(),
            resource_name: resource.to_owned(),
            options: None,
        };
        self.runtime.block_on(async {
            let channel = knode_cri::client::channel(&directory.join(KUBELET_SOCKET)).await;
            let channel = channel.map_err(|error| error.to_string())?;
            let answer = RegistrationClient::new(channel).register(request).await;
            answer.map(drop).map_err(|status| status.message().to_owned())
        })
    }

    /// Serves a plugin in the directory of all plugins.
    pub fn present(&self, kind: &str, name: &str, version: &str, router: Router) -> PathBuf {
        let socket = self.kubelet.join("plugins_registry").join(format!("{kind}.sock"));
        let info = PluginInfo {
            r#type: kind.to_owned(),
            name: name.to_owned(),
            endpoint: String::new(),
            supported_versions: vec![version.to_owned()],
        };
        self.serve(&socket, router.add_service(RegistrationServer::new(Info(info))));
        socket
    }

    /// What the kubelet says that pods were given.
    pub fn given(&self) -> Result<Vec<PodResources>, String> {
        self.runtime.block_on(async {
            let socket = self.kubelet.join("pod-resources/kubelet.sock");
            let channel = knode_cri::client::channel(&socket).await;
            let channel = channel.map_err(|error| error.to_string())?;
            let answer = PodResourcesListerClient::new(channel)
                .list(ListPodResourcesRequest {})
                .await;
            let answer = answer.map_err(|status| status.message().to_owned())?;
            Ok(answer.into_inner().pod_resources)
        })
    }
}

struct Info(PluginInfo);

#[tonic::async_trait]
impl Registration for Info {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn notify_registration_status(
        &self,
        _: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

/// A plugin whose devices are nodes in a directory, named after them.
#[derive(Clone)]
pub struct Devices {
    directory: PathBuf,
    list: watch::Sender<Vec<Device>>,
}

impl Devices {
    /// Devices of the nodes of these names, with whether they are healthy.
    pub fn new(directory: &Path, list: &[(&str, bool)]) -> Self {
        let device = |(id, healthy): &(&str, bool)| Device {
            id: (*id).to_owned(),
            health: if *healthy { HEALTHY } else { "Unhealthy" }.to_owned(),
            topology: None,
        };
        Self {
            directory: directory.to_owned(),
            list: watch::Sender::new(list.iter().map(device).collect()),
        }
    }

    /// Ends the lists, as a plugin does that is gone.
    pub fn end(&self) {
        self.list.send_replace(Vec::new());
    }

    pub fn router(&self) -> Router {
        tonic::transport::Server::builder().add_service(DevicePluginServer::new(self.clone()))
    }
}

#[tonic::async_trait]
impl DevicePlugin for Devices {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions::default()))
    }

    type ListAndWatchStream = BoxStream<'static, Result<ListAndWatchResponse, Status>>;

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let lists = WatchStream::new(self.list.subscribe());
        let lists = lists.take_while(|devices| std::future::ready(!devices.is_empty()));
        let lists = lists.map(|devices| Ok(ListAndWatchResponse { devices }));
        Ok(Response::new(lists.boxed()))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented("nothing is preferred"))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let wanted = request.into_inner().container_requests.remove(0).devices_ids;
        let node = |id: &String| DeviceSpec {
            container_path: format!("/dev/given-{id}"),
            host_path: self.directory.join(id).display().to_string(),
            permissions: "rw".to_owned(),
        };
        let mount = v1beta1_mount(&self.directory);
        let response = ContainerAllocateResponse {
            envs: [("GIVEN".to_owned(), wanted.join(","))].into(),
            devices: wanted.iter().map(node).collect(),
            mounts: vec![mount],
            ..ContainerAllocateResponse::default()
        };
        Ok(Response::new(AllocateResponse {
            container_responses: vec![response],
        }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Err(Status::unimplemented("nothing is to be done"))
    }
}

fn v1beta1_mount(directory: &Path) -> Mount {
    Mount {
        container_path: "/plugin".to_owned(),
        host_path: directory.display().to_string(),
        read_only: true,
    }
}

/// A driver of one device of the Container Device Interface; notes what it is asked.
#[derive(Clone, Default)]
pub struct Driver {
    pub device: String,
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Driver {
    pub fn router(&self) -> Router {
        tonic::transport::Server::builder().add_service(DraPluginServer::new(self.clone()))
    }
}

#[tonic::async_trait]
impl DraPlugin for Driver {
    async fn node_prepare_resources(
        &self,
        request: Request<dra::NodePrepareResourcesRequest>,
    ) -> Result<Response<dra::NodePrepareResourcesResponse>, Status> {
        let answer = |claim: dra::Claim| {
            self.asked.lock().unwrap().push(format!("+{}", claim.name));
            let device = dra::Device {
                pool_name: "pool".to_owned(),
                device_name: "one".to_owned(),
                cdi_device_ids: vec![self.device.clone()],
                ..dra::Device::default()
            };
            let result = dra::NodePrepareResourceResponse {
                devices: vec![device],
                error: String::new(),
            };
            (claim.uid, result)
        };
        let claims = request.into_inner().claims.into_iter().map(answer).collect();
        Ok(Response::new(dra::NodePrepareResourcesResponse { claims }))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<dra::NodeUnprepareResourcesRequest>,
    ) -> Result<Response<dra::NodeUnprepareResourcesResponse>, Status> {
        let answer = |claim: dra::Claim| {
            self.asked.lock().unwrap().push(format!("-{}", claim.name));
            (claim.uid, dra::NodeUnprepareResourceResponse::default())
        };
        let claims = request.into_inner().claims.into_iter().map(answer).collect();
        Ok(Response::new(dra::NodeUnprepareResourcesResponse { claims }))
    }
}
