//! A CSI driver that is real to a kubelet: it serves on a socket, registers on another, and mounts by bind mounts what
//! lies below a directory of its own. It writes down what it is asked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use knode_kubelet_csi::v1;
use knode_kubelet_csi::v1::node_server::{Node, NodeServer};
use knode_kubelet_csi::v1::node_service_capability::Type;
use knode_kubelet_csi::v1::node_service_capability::rpc::Type as Ability;
use knode_kubelet_csi::v1::volume_capability::AccessType;
use knode_kubelet_plugins::v1::registration_server::{Registration, RegistrationServer};
use knode_kubelet_plugins::v1::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use knode_linux::overlay::{mount_points_below, unmount_all};
use nix::mount::{MsFlags, mount};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// One call that a driver was asked.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// `stage`, `unstage`, `publish`, `unpublish`, `expand`
    pub name: &'static str,
    /// The volume.
    pub volume: String,
    /// Where to, or what.
    pub target: PathBuf,
    /// What it was told of the volume and the pod.
    pub context: BTreeMap<String, String>,
    /// The secrets that it was given.
    pub secrets: BTreeMap<String, String>,
    /// What it was told of the attachment.
    pub attachment: BTreeMap<String, String>,
    /// Bytes that are wanted.
    pub bytes: i64,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    /// What a call of this name waits for: that it is not held any more.
    held: Option<&'static str>,
    /// A call waits.
    waits: bool,
}

/// The running driver. It ends, and its sockets go, when this is dropped.
pub struct CsiDriver {
    name: String,
    directory: PathBuf,
    state: Arc<Mutex<State>>,
    sockets: Vec<PathBuf>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Clone)]
struct Service {
    name: String,
    directory: PathBuf,
    endpoint: PathBuf,
    state: Arc<Mutex<State>>,
}

impl CsiDriver {
    /// Starts a driver of this name: it keeps its volumes below `directory`, and registers with the kubelet whose root
    /// is `kubelet`.
    ///
    /// # Panics
    /// When its sockets cannot be made.
    #[track_caller]
    pub fn start(name: &str, directory: &Path, kubelet: &Path) -> Self {
        let (plugins, registry) = (
            kubelet.join("plugins").join(name),
            kubelet.join("plugins_registry"),
        );
        for directory in [directory, &plugins, &registry] {
            fs::create_dir_all(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        }
        let sockets = [
            plugins.join("csi.sock"),
            registry.join(format!("{name}-reg.sock")),
        ];
        let state = Arc::new(Mutex::new(State::default()));
        let service = Service {
            name: name.to_owned(),
            directory: directory.to_owned(),
            endpoint: sockets[0].clone(),
            state: state.clone(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap_or_else(|e| panic!("runtime of driver {name}: {e}"));
        let listen = |socket: &Path| {
            // One of an earlier run may lie there.
            let _ = fs::remove_file(socket);
            let _inside = runtime.enter();
            let listener = UnixListener::bind(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
            UnixListenerStream::new(listener)
        };
        let (own, registration) = (listen(&sockets[0]), listen(&sockets[1]));
        let serves = Server::builder().add_service(NodeServer::new(service.clone()));
        runtime.spawn(serves.serve_with_incoming(own));
        let registers = Server::builder().add_service(RegistrationServer::new(service));
        runtime.spawn(registers.serve_with_incoming(registration));
        Self {
            name: name.to_owned(),
            directory: directory.to_owned(),
            state,
            sockets: sockets.into(),
            runtime: Some(runtime),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory of a volume, made if it is not there.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn volume(&self, handle: &str) -> PathBuf {
        let path = self.directory.join(handle);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Everything that was asked about a volume.
    pub fn calls(&self, volume: &str) -> Vec<Call> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = state.calls.iter().filter(|call| call.volume == volume);
        calls.cloned().collect()
    }

    /// The names of what was asked about a volume.
    pub fn names(&self, volume: &str) -> Vec<&'static str> {
        self.calls(volume).into_iter().map(|call| call.name).collect()
    }

    /// Holds calls of this name before they do anything, until it is released by `None`.
    pub fn hold(&self, call: Option<&'static str>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.held, state.waits) = (call, false);
    }

    /// Whether a call is being held.
    pub fn holds(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waits
    }
}

impl Drop for CsiDriver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        for socket in &self.sockets {
            // It is gone if the kubelet's directory is.
            let _ = fs::remove_file(socket);
        }
        for point in mount_points_below(&self.directory)
            .unwrap_or_default()
            .iter()
            .rev()
        {
            if let Err(error) = unmount_all(point) {
                eprintln!("{}: {error}", point.display());
            }
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// Binds a directory to another, once.
fn bind(source: &Path, target: &Path) -> Result<(), Status> {
    fs::create_dir_all(target).map_err(failed)?;
    let points = mount_points_below(target).map_err(failed)?;
    if points.iter().any(|point| point == target) {
        return Ok(());
    }
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed)
}

fn unbind(target: &Path) -> Result<(), Status> {
    unmount_all(target).map_err(failed)?;
    match fs::remove_dir(target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

impl Service {
    fn note(&self, call: Call) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls.push(call);
    }

    async fn turn(&self, name: &'static str) {
        loop {
            {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.held != Some(name) {
                    return;
                }
                state.waits = true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// What the volume is: a directory of its own, or one for the pod alone.
    fn source(&self, volume: &str) -> Result<PathBuf, Status> {
        let source = self.directory.join(volume);
        fs::create_dir_all(&source).map_err(failed)?;
        Ok(source)
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Registration for Service {
    async fn get_info(&self, _: Request<InfoRequest>) -> Answer<PluginInfo> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".into(),
            name: self.name.clone(),
            endpoint: self.endpoint.display().to_string(),
            supported_versions: vec!["1.0.0".into()],
        }))
    }

    async fn notify_registration_status(
        &self,
        status: Request<RegistrationStatus>,
    ) -> Answer<RegistrationStatusResponse> {
        let status = status.into_inner();
        if !status.plugin_registered {
            eprintln!("driver {} was not registered: {}", self.name, status.error);
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl Node for Service {
    async fn node_stage_volume(
        &self,
        request: Request<v1::NodeStageVolumeRequest>,
    ) -> Answer<v1::NodeStageVolumeResponse> {
        let asked = request.into_inner();
        self.turn("stage").await;
        let target = PathBuf::from(&asked.staging_target_path);
        self.note(Call {
            name: "stage",
            volume: asked.volume_id.clone(),
            target: target.clone(),
            context: asked.volume_context,
            secrets: asked.secrets,
            attachment: asked.publish_context,
            ..Call::default()
        });
        let capability = asked.volume_capability.and_then(|one| one.access_type);
        if matches!(capability, Some(AccessType::Mount(_))) {
            bind(&self.source(&asked.volume_id)?, &target)?;
        }
        Ok(Response::new(v1::NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<v1::NodeUnstageVolumeRequest>,
    ) -> Answer<v1::NodeUnstageVolumeResponse> {
        let asked = request.into_inner();
        self.turn("unstage").await;
        let target = PathBuf::from(&asked.staging_target_path);
        self.note(Call {
            name: "unstage",
            volume: asked.volume_id,
            target: target.clone(),
            ..Call::default()
        });
        unbind(&target)?;
        Ok(Response::new(v1::NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<v1::NodePublishVolumeRequest>,
    ) -> Answer<v1::NodePublishVolumeResponse> {
        let asked = request.into_inner();
        self.turn("publish").await;
        let target = PathBuf::from(&asked.target_path);
        self.note(Call {
            name: "publish",
            volume: asked.volume_id.clone(),
            target: target.clone(),
            context: asked.volume_context,
            secrets: asked.secrets,
            attachment: asked.publish_context,
            ..Call::default()
        });
        match asked.staging_target_path.as_str() {
            "" => bind(&self.source(&asked.volume_id)?, &target)?,
            staged => bind(Path::new(staged), &target)?,
        }
        Ok(Response::new(v1::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<v1::NodeUnpublishVolumeRequest>,
    ) -> Answer<v1::NodeUnpublishVolumeResponse> {
        let asked = request.into_inner();
        self.turn("unpublish").await;
        let target = PathBuf::from(&asked.target_path);
        self.note(Call {
            name: "unpublish",
            volume: asked.volume_id,
            target: target.clone(),
            ..Call::default()
        });
        unbind(&target)?;
        Ok(Response::new(v1::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        _: Request<v1::NodeGetVolumeStatsRequest>,
    ) -> Answer<v1::NodeGetVolumeStatsResponse> {
        let usage = |unit, total, used| v1::VolumeUsage {
            available: total - used,
            total,
            used,
            unit,
        };
        Ok(Response::new(v1::NodeGetVolumeStatsResponse {
            usage: vec![usage(1, 1 << 30, 1 << 20), usage(2, 1000, 10)],
            volume_condition: None,
        }))
    }

    async fn node_expand_volume(
        &self,
        request: Request<v1::NodeExpandVolumeRequest>,
    ) -> Answer<v1::NodeExpandVolumeResponse> {
        let asked = request.into_inner();
        let bytes = asked.capacity_range.map_or(0, |range| range.required_bytes);
        self.note(Call {
            name: "expand",
            volume: asked.volume_id,
            target: asked.volume_path.into(),
            bytes,
            ..Call::default()
        });
        Ok(Response::new(v1::NodeExpandVolumeResponse {
            capacity_bytes: bytes,
        }))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<v1::NodeGetCapabilitiesRequest>,
    ) -> Answer<v1::NodeGetCapabilitiesResponse> {
        let all = [
            Ability::StageUnstageVolume,
            Ability::ExpandVolume,
            Ability::GetVolumeStats,
        ];
        let capability = |one: Ability| v1::NodeServiceCapability {
            r#type: Some(Type::Rpc(v1::node_service_capability::Rpc { r#type: one as i32 })),
        };
        Ok(Response::new(v1::NodeGetCapabilitiesResponse {
            capabilities: all.into_iter().map(capability).collect(),
        }))
    }

    async fn node_get_info(&self, _: Request<v1::NodeGetInfoRequest>) -> Answer<v1::NodeGetInfoResponse> {
        Ok(Response::new(v1::NodeGetInfoResponse {
            node_id: format!("{}-here", self.name),
            max_volumes_per_node: 16,
            accessible_topology: Some(v1::Topology {
                segments: [(format!("topology.{}/place", self.name), "here".to_owned())].into(),
            }),
        }))
    }
}
