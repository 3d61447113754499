//! A directory of device plugins, and a plugin in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knode_client::ManualClock;
use knode_kubelet_devices::pod_resources::{Claim, Given, MemoryBlock, PodResources};
use knode_kubelet_devices::v1beta1::device_plugin_server::{DevicePlugin, DevicePluginServer};
use knode_kubelet_devices::v1beta1::registration_client::RegistrationClient;
use knode_kubelet_devices::v1beta1::*;
use knode_kubelet_devices::{Devices, DevicesConfig};
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

pub const RESOURCE: &str = "example.com/dev";

/// Waits until `look` is content.
pub async fn wait(what: &str, look: impl Fn() -> Result<(), String>) {
    let mut last = String::new();
    for _ in 0..500 {
        match look() {
            Ok(()) => return,
            Err(seen) => last = seen,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} within 10 s: {last}");
}

pub struct Bed {
    pub directory: PathBuf,
    pub clock: Arc<ManualClock>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl Bed {
    pub fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("devices-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self {
            directory,
            clock: Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)),
            tasks: tokio::sync::Mutex::default(),
        }
    }

    /// Opens what is known, and takes registrations.
    pub async fn start(&self) -> Arc<Devices> {
        let config = DevicesConfig {
            directory: self.directory.clone(),
            numa: vec![0, 1],
            clock: self.clock.clone(),
        };
        let devices = Devices::open(config).unwrap();
        let serving = devices.clone().serve();
        self.tasks.lock().await.spawn(async move {
            let Err(error) = serving.await;
            panic!("not served: {error}");
        });
        let socket = self.directory.join(KUBELET_SOCKET);
        wait("the kubelet's socket", || {
            let connected = std::os::unix::net::UnixStream::connect(&socket);
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
        devices
    }

    pub async fn stop(&self) {
        self.tasks.lock().await.shutdown().await;
    }

    /// Registers the plugin at `p.sock`.
    pub async fn register(&self, version: &str, resource: &str) -> Result<(), String> {
        let channel = knode_cri::client::channel(&self.directory.join(KUBELET_SOCKET)).await;
        let request = RegisterRequest {
            version: version.to_owned(),
            endpoint: "p.sock".to_owned(),
            resource_name: resource.to_owned(),
            options: None,
        };
        let answer = RegistrationClient::new(channel.unwrap()).register(request).await;
        answer.map(drop).map_err(|status| status.message().to_owned())
    }

    pub async fn pod_resources(&self, devices: Arc<Devices>, pods: Vec<Pod>) -> Channel {
        let given = Arc::new(Pods(pods.into_iter().map(Arc::new).collect()));
        let api = PodResources::new(devices, given, self.clock.clone());
        let socket = self.directory.join("pod-resources.sock");
        let path = socket.clone();
        self.tasks.lock().await.spawn(async move {
            let Err(error) = api.serve(&path).await;
            panic!("not served: {error}");
        });
        wait("the socket", || {
            socket.exists().then_some(()).ok_or("none".into())
        })
        .await;
        knode_cri::client::channel(&socket).await.unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

struct Pods(Vec<Arc<Pod>>);

impl Given for Pods {
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.0.clone()
    }

    fn cpus(&self, _: &str, _: &str) -> Vec<i64> {
        Vec::new()
    }

    fn memory(&self, _: &str, _: &str) -> Vec<MemoryBlock> {
        Vec::new()
    }

    fn allocatable_cpus(&self) -> Vec<i64> {
        Vec::new()
    }

    fn allocatable_memory(&self) -> Vec<MemoryBlock> {
        Vec::new()
    }

    fn claims(&self, _: &str, _: &str) -> Vec<Claim> {
        Vec::new()
    }
}

/// A pod whose container asks for `count` devices, after an init container that asks for `init`.
pub fn pod(name: &str, count: u32, init: u32) -> Pod {
    let container = |name: &str, count: u32| {
        let limits = BTreeMap::from([(RESOURCE, count.to_string())]);
        json!({"name": name, "resources": {"limits": limits}})
    };
    let pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"initContainers": [container("i", init)], "containers": [container("c", count)]},
    });
    serde_json::from_value(pod).unwrap()
}

/// A device, whether it is healthy, and the NUMA nodes that it is near to.
pub type Listed<'a> = (&'a str, bool, &'a [i64]);

#[derive(Clone, Default)]
pub struct Plugin(Arc<Inner>);

#[derive(Default)]
struct Inner {
    devices: watch::Sender<Vec<Device>>,
    allocated: Mutex<Vec<Vec<String>>>,
    started: Mutex<Vec<Vec<String>>>,
    preferred: Mutex<String>,
    failure: Mutex<String>,
}

impl Plugin {
    pub fn new(devices: &[Listed<'_>]) -> Self {
        let plugin = Self::default();
        plugin.list(devices);
        plugin
    }

    pub fn list(&self, devices: &[Listed<'_>]) {
        let device = |(id, healthy, nodes): &Listed<'_>| Device {
            id: (*id).to_owned(),
            health: if *healthy { HEALTHY } else { "Unhealthy" }.to_owned(),
            topology: Some(TopologyInfo {
                nodes: nodes.iter().map(|id| NumaNode { id: *id }).collect(),
            }),
        };
        self.0.devices.send_replace(devices.iter().map(device).collect());
    }

    /// Ends the lists, as a plugin does that is gone.
    pub fn end(&self) {
        self.0.devices.send_replace(vec![Device::default()]);
    }

    pub fn prefer(&self, id: &str) {
        id.clone_into(&mut self.0.preferred.lock().unwrap());
    }

    pub fn fail(&self, why: &str) {
        why.clone_into(&mut self.0.failure.lock().unwrap());
    }

    pub fn allocated(&self) -> Vec<Vec<String>> {
        self.0.allocated.lock().unwrap().clone()
    }

    pub fn started(&self) -> Vec<Vec<String>> {
        self.0.started.lock().unwrap().clone()
    }

    pub fn serve(&self, socket: &Path) -> JoinHandle<()> {
        let listener = UnixListener::bind(socket).unwrap();
        let service = DevicePluginServer::new(self.clone());
        tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            let incoming = UnixListenerStream::new(listener);
            server.serve_with_incoming(incoming).await.unwrap();
        })
    }
}

#[tonic::async_trait]
impl DevicePlugin for Plugin {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions {
            pre_start_required: true,
            get_preferred_allocation_available: !self.0.preferred.lock().unwrap().is_empty(),
        }))
    }

    type ListAndWatchStream = BoxStream<'static, Result<ListAndWatchResponse, Status>>;

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let lists = WatchStream::new(self.0.devices.subscribe());
        let goes_on = |devices: &Vec<Device>| std::future::ready(*devices != [Device::default()]);
        let lists = lists.take_while(goes_on);
        let lists = lists.map(|devices| Ok(ListAndWatchResponse { devices }));
        Ok(Response::new(lists.boxed()))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let device_i_ds = vec![self.0.preferred.lock().unwrap().clone()];
        Ok(Response::new(PreferredAllocationResponse {
            container_responses: vec![ContainerPreferredAllocationResponse { device_i_ds }],
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let failure = self.0.failure.lock().unwrap().clone();
        if !failure.is_empty() {
            return Err(Status::unknown(failure));
        }
        let wanted = request.into_inner().container_requests.remove(0).devices_ids;
        self.0.allocated.lock().unwrap().push(wanted.clone());
        let device = |id: &String| DeviceSpec {
            container_path: format!("/dev/{id}"),
            host_path: "/dev/null".to_owned(),
            permissions: "rw".to_owned(),
        };
        let cdi = |id: &String| CdiDevice {
            name: format!("example.com/class={id}"),
        };
        let response = ContainerAllocateResponse {
            envs: [("GIVEN".to_owned(), wanted.join(","))].into(),
            devices: wanted.iter().map(device).collect(),
            cdi_devices: wanted.iter().map(cdi).collect(),
            ..ContainerAllocateResponse::default()
        };
        Ok(Response::new(AllocateResponse {
            container_responses: vec![response],
        }))
    }

    async fn pre_start_container(
        &self,
        request: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        let ids = request.into_inner().devices_ids;
        self.0.started.lock().unwrap().push(ids);
        Ok(Response::new(PreStartContainerResponse {}))
    }
}
