//! A container runtime that runs nothing: it keeps the state of sandboxes and containers, refuses what a
//! real one refuses, and lets containers end as the test says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use jiff::Timestamp;
use knode_client::Clock;
use knode_cri::*;
use tokio::sync::mpsc;

use super::clock::VirtualClock;

/// How containers of one name behave.
#[derive(Clone, Default)]
pub struct Behaviour {
    /// Ends by itself after that time with that code.
    pub exit: Option<(Duration, i32)>,
    /// The runtime's reason of that end.
    pub reason: Option<&'static str>,
    /// What it writes to its termination message.
    pub message: Option<&'static str>,
    /// What it writes to its log.
    pub log: Option<&'static str>,
    /// Code with which it obeys SIGTERM; without it runs until it is killed.
    pub on_term: Option<i32>,
    /// Why it cannot be started.
    pub start_error: Option<&'static str>,
    /// Why it cannot be created.
    pub create_error: Option<&'static str>,
    /// Results of commands run in it, by the command's last word; unknown ones succeed.
    pub execs: BTreeMap<&'static str, VecDeque<(i32, &'static str)>>,
}

struct Sandbox {
    config: PodSandboxConfig,
    ready: bool,
    ip: String,
    created_at: i64,
}

struct One {
    sandbox: String,
    config: ContainerConfig,
    logs: String,
    state: ContainerState,
    created_at: i64,
    started_at: i64,
    finished_at: i64,
    exit_code: i32,
    reason: String,
    message: String,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, One>,
    behaviours: BTreeMap<String, Behaviour>,
    pull_error: Option<String>,
    /// Passwords of images, by name.
    passwords: BTreeMap<String, String>,
    /// Pulls that run now, and the most that ran at once.
    pulling: (u32, u32),
    images: Vec<String>,
    sandbox_errors: u32,
    reopen_fails: bool,
    update_error: Option<String>,
    updates: Vec<UpdateContainerResourcesRequest>,
    slow: bool,
    calls: Vec<String>,
    creates: Vec<CreateContainerRequest>,
    runs: Vec<RunPodSandboxRequest>,
    subscribers: Vec<mpsc::UnboundedSender<CriResult<ContainerEventResponse>>>,
    next: u32,
}

pub struct FakeRuntime {
    state: Mutex<State>,
    clock: Arc<VirtualClock>,
    me: Weak<FakeRuntime>,
}

fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap()
}

impl FakeRuntime {
    pub fn new(clock: Arc<VirtualClock>) -> Arc<Self> {
        Arc::new_cyclic(|me| {
            let images = ["busybox:latest", "nginx:latest"].map(ToOwned::to_owned).to_vec();
            Self {
                state: Mutex::new(State {
                    images,
                    ..State::default()
                }),
                clock,
                me: me.clone(),
            }
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap())
    }

    pub fn behave(&self, container: &str, behaviour: Behaviour) {
        self.with(|state| state.behaviours.insert(container.to_owned(), behaviour));
    }

    pub fn fail_pulls(&self, error: Option<&str>) {
        self.with(|state| state.pull_error = error.map(ToOwned::to_owned));
    }

    /// Lets an image be pulled with a password only.
    pub fn lock_image(&self, image: &str, password: &str) {
        self.with(|state| state.passwords.insert(image.to_owned(), password.to_owned()));
    }

    /// The most pulls that ran at once.
    pub fn most_pulls(&self) -> u32 {
        self.with(|state| state.pulling.1)
    }

    pub fn fail_sandboxes(&self, count: u32) {
        self.with(|state| state.sandbox_errors = count);
    }

    /// Changes of limits that were asked for.
    pub fn updates(&self) -> Vec<UpdateContainerResourcesRequest> {
        self.with(|state| state.updates.clone())
    }

    /// Lets changes of limits fail, or not.
    pub fn fail_updates(&self, error: Option<&str>) {
        self.with(|state| state.update_error = error.map(ToOwned::to_owned));
    }

    /// Lets the runtime fail to open logs anew, or not.
    pub fn fail_reopening(&self, fails: bool) {
        self.with(|state| state.reopen_fails = fails);
    }

    /// Lets calls take about as long as with a real runtime.
    pub fn slow_down(&self) {
        self.with(|state| state.slow = true);
    }

    async fn work(&self, millis: u64) {
        if self.with(|state| state.slow) {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    /// All calls that change something, as `Call name`.
    pub fn calls(&self) -> Vec<String> {
        self.with(|state| state.calls.clone())
    }

    pub fn creates(&self) -> Vec<CreateContainerRequest> {
        self.with(|state| state.creates.clone())
    }

    pub fn runs(&self) -> Vec<RunPodSandboxRequest> {
        self.with(|state| state.runs.clone())
    }

    pub fn is_empty(&self) -> bool {
        self.with(|state| state.containers.is_empty() && state.sandboxes.is_empty())
    }

    pub fn left(&self) -> Vec<String> {
        self.with(|state| {
            state
                .containers
                .keys()
                .chain(state.sandboxes.keys())
                .cloned()
                .collect()
        })
    }

    /// Id of the container of that name that runs.
    pub fn running(&self, name: &str) -> Option<String> {
        self.with(|state| {
            let runs = |one: &One| one.name() == name && one.state == ContainerState::ContainerRunning;
            state
                .containers
                .iter()
                .find(|(_, one)| runs(one))
                .map(|(id, _)| id.clone())
        })
    }

    /// A process ends on its own.
    pub fn exit(&self, id: &str, code: i32, reason: &str) {
        let now = nanos(self.clock.now());
        self.with(|state| {
            let Some(one) = state.containers.get_mut(id) else {
                return;
            };
            if one.state != ContainerState::ContainerRunning {
                return;
            }
            one.state = ContainerState::ContainerExited;
            one.finished_at = now;
            one.exit_code = code;
            one.reason = reason.to_owned();
            state.tell(id, ContainerEventType::ContainerStoppedEvent);
        });
    }

    /// A sandbox is lost with everything in it, as after a reboot.
    pub fn lose_sandboxes(&self) {
        let now = nanos(self.clock.now());
        self.with(|state| {
            state
                .sandboxes
                .values_mut()
                .for_each(|sandbox| sandbox.ready = false);
            for one in state.containers.values_mut() {
                one.state = ContainerState::ContainerExited;
                one.finished_at = now;
                one.exit_code = 255;
            }
            let ids: Vec<String> = state.containers.keys().cloned().collect();
            ids.iter()
                .for_each(|id| state.tell(id, ContainerEventType::ContainerStoppedEvent));
        });
    }
}

impl One {
    fn name(&self) -> &str {
        &self.config.metadata.as_ref().unwrap().name
    }

    fn status(&self, id: &str) -> ContainerStatus {
        let mut status = ContainerStatus {
            id: id.to_owned(),
            metadata: self.config.metadata.clone(),
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            exit_code: self.exit_code,
            image: Some(ImageSpec {
                image: format!(
                    "docker.io/library/{}",
                    self.config.image.as_ref().unwrap().user_specified_image
                ),
                ..Default::default()
            }),
            image_ref: self.config.image.as_ref().unwrap().image.clone(),
            reason: self.reason.clone(),
            message: self.message.clone(),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: format!("{}/{}", self.logs, self.config.log_path),
            user: Some(ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: 0,
                    gid: 0,
                    supplemental_groups: vec![0],
                }),
            }),
            ..Default::default()
        };
        status.set_state(self.state);
        status
    }
}

impl Sandbox {
    fn status(&self, id: &str) -> PodSandboxStatus {
        let state = if self.ready {
            PodSandboxState::SandboxReady
        } else {
            PodSandboxState::SandboxNotready
        };
        let ip = if self.ready {
            self.ip.clone()
        } else {
            String::new()
        };
        PodSandboxStatus {
            id: id.to_owned(),
            metadata: self.config.metadata.clone(),
            state: state as i32,
            created_at: self.created_at,
            network: Some(PodSandboxNetworkStatus {
                ip,
                additional_ips: vec![],
            }),
            labels: self.config.labels.clone(),
            ..Default::default()
        }
    }
}

impl State {
    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{:04}", self.next)
    }

    fn tell(&mut self, id: &str, kind: ContainerEventType) {
        let one = &self.containers[id];
        let sandbox = self
            .sandboxes
            .get(&one.sandbox)
            .map(|sandbox| sandbox.status(&one.sandbox));
        let event = ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind as i32,
            pod_sandbox_status: sandbox,
            containers_statuses: vec![one.status(id)],
            ..Default::default()
        };
        self.subscribers
            .retain(|subscriber| subscriber.send(Ok(event.clone())).is_ok());
    }

    fn note(&mut self, call: &str, what: &str) {
        self.calls.push(format!("{call} {what}"));
    }

    fn name_of(&self, id: &str) -> String {
        self.containers
            .get(id)
            .map_or_else(|| "?".to_owned(), |one| one.name().to_owned())
    }
}

#[async_trait]
impl RuntimeService for FakeRuntime {
    async fn version(&self, _: VersionRequest) -> CriResult<VersionResponse> {
        Ok(VersionResponse {
            runtime_name: "knode".into(),
            ..Default::default()
        })
    }

    async fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> CriResult<RunPodSandboxResponse> {
        self.work(100).await;
        let created_at = nanos(self.clock.now());
        self.with(|state| {
            let config = request.config.clone().unwrap();
            let metadata = config.metadata.clone().unwrap();
            state.note("RunPodSandbox", &metadata.name);
            if state.sandbox_errors > 0 {
                state.sandbox_errors -= 1;
                return Err(CriError::unknown("no address is left"));
            }
            let same = |one: &Sandbox| one.config.metadata.as_ref() == Some(&metadata);
            if state.sandboxes.values().any(same) {
                return Err(CriError::already_exists(
                    "a sandbox of that name and attempt exists",
                ));
            }
            if !std::path::Path::new(&config.log_directory).is_dir() {
                return Err(CriError::invalid("the log directory does not exist"));
            }
            state.runs.push(request);
            let id = state.id("sandbox");
            let ip = format!("10.244.0.{}", state.next + 4);
            state.sandboxes.insert(
                id.clone(),
                Sandbox {
                    config,
                    ready: true,
                    ip,
                    created_at,
                },
            );
            Ok(RunPodSandboxResponse { pod_sandbox_id: id })
        })
    }

    async fn stop_pod_sandbox(&self, request: StopPodSandboxRequest) -> CriResult<StopPodSandboxResponse> {
        self.work(50).await;
        self.with(|state| {
            state.note("StopPodSandbox", "");
            if let Some(sandbox) = state.sandboxes.get_mut(&request.pod_sandbox_id) {
                sandbox.ready = false;
            }
            let alive = |one: &One| {
                one.sandbox == request.pod_sandbox_id && one.state == ContainerState::ContainerRunning
            };
            assert!(
                !state.containers.values().any(alive),
                "a sandbox was stopped before its containers"
            );
        });
        Ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: RemovePodSandboxRequest,
    ) -> CriResult<RemovePodSandboxResponse> {
        self.with(|state| {
            state.note("RemovePodSandbox", "");
            state.sandboxes.remove(&request.pod_sandbox_id);
        });
        Ok(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> CriResult<PodSandboxStatusResponse> {
        self.with(|state| {
            let id = &request.pod_sandbox_id;
            let sandbox = state
                .sandboxes
                .get(id)
                .ok_or_else(|| CriError::not_found("no such sandbox"))?;
            Ok(PodSandboxStatusResponse {
                status: Some(sandbox.status(id)),
                ..Default::default()
            })
        })
    }

    async fn list_pod_sandbox(&self, _: ListPodSandboxRequest) -> CriResult<ListPodSandboxResponse> {
        self.with(|state| {
            let items = state.sandboxes.iter().map(|(id, sandbox)| {
                let status = sandbox.status(id);
                PodSandbox {
                    id: id.clone(),
                    metadata: status.metadata,
                    state: status.state,
                    labels: status.labels,
                    ..Default::default()
                }
            });
            Ok(ListPodSandboxResponse {
                items: items.collect(),
            })
        })
    }

    async fn create_container(&self, request: CreateContainerRequest) -> CriResult<CreateContainerResponse> {
        self.work(20).await;
        let created_at = nanos(self.clock.now());
        self.with(|state| {
            let config = request.config.clone().unwrap();
            let metadata = config.metadata.clone().unwrap();
            state.note("CreateContainer", &metadata.name);
            let behaviour = state.behaviours.get(&metadata.name).cloned().unwrap_or_default();
            if let Some(error) = behaviour.create_error {
                return Err(CriError::unknown(error));
            }
            let ready = state
                .sandboxes
                .get(&request.pod_sandbox_id)
                .is_some_and(|sandbox| sandbox.ready);
            if !ready {
                return Err(CriError::not_found("the sandbox is not ready"));
            }
            for mount in config.mounts.iter().filter(|mount| mount.image.is_none()) {
                if !std::path::Path::new(&mount.host_path).exists() {
                    return Err(CriError::invalid(format!("{} does not exist", mount.host_path)));
                }
            }
            let same = |one: &One| {
                one.sandbox == request.pod_sandbox_id && one.config.metadata.as_ref() == Some(&metadata)
            };
            if state.containers.values().any(same) {
                return Err(CriError::already_exists(
                    "a container of that name and attempt exists",
                ));
            }
            let id = state.id("container");
            let logs = request.sandbox_config.clone().unwrap().log_directory;
            let one = One {
                sandbox: request.pod_sandbox_id.clone(),
                config,
                logs,
                state: ContainerState::ContainerCreated,
                created_at,
                started_at: 0,
                finished_at: 0,
                exit_code: 0,
                reason: String::new(),
                message: String::new(),
            };
            state.containers.insert(id.clone(), one);
            state.creates.push(request);
            Ok(CreateContainerResponse { container_id: id })
        })
    }

    async fn start_container(&self, request: StartContainerRequest) -> CriResult<StartContainerResponse> {
        self.work(50).await;
        let now = nanos(self.clock.now());
        let id = request.container_id;
        let (behaviour, message, log) = self.with(|state| {
            let name = state.name_of(&id);
            state.note("StartContainer", &name);
            let behaviour = state.behaviours.get(&name).cloned().unwrap_or_default();
            let one = state
                .containers
                .get_mut(&id)
                .ok_or_else(|| CriError::not_found("no such container"))?;
            if one.state != ContainerState::ContainerCreated {
                return Err(CriError::failed_precondition(
                    "the container is not in the state created",
                ));
            }
            if let Some(error) = behaviour.start_error {
                one.state = ContainerState::ContainerExited;
                one.exit_code = 128;
                one.reason = "StartError".into();
                one.message = error.into();
                one.finished_at = now;
                return Err(CriError::unknown(error));
            }
            one.state = ContainerState::ContainerRunning;
            one.started_at = now;
            let message = one
                .config
                .mounts
                .iter()
                .find(|mount| mount.container_path == "/dev/termination-log");
            let paths = (
                message.map(|mount| mount.host_path.clone()),
                format!("{}/{}", one.logs, one.config.log_path),
            );
            state.tell(&id, ContainerEventType::ContainerStartedEvent);
            Ok((behaviour, paths.0, paths.1))
        })?;
        if let (Some(text), Some(path)) = (behaviour.message, message) {
            std::fs::write(path, text).unwrap();
        }
        std::fs::write(log, behaviour.log.unwrap_or_default()).unwrap();
        if let Some((delay, code)) = behaviour.exit {
            let me = self.me.upgrade().unwrap();
            let default = if code == 0 { "Completed" } else { "Error" };
            let reason = behaviour.reason.unwrap_or(default);
            if delay.is_zero() {
                me.exit(&id, code, reason);
                return Ok(StartContainerResponse {});
            }
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                me.exit(&id, code, reason);
            });
        }
        Ok(StartContainerResponse {})
    }

    async fn stop_container(&self, request: StopContainerRequest) -> CriResult<StopContainerResponse> {
        let id = request.container_id;
        let on_term = self.with(|state| {
            let name = state.name_of(&id);
            state.note("StopContainer", &format!("{name} {}", request.timeout));
            state
                .behaviours
                .get(&name)
                .and_then(|behaviour| behaviour.on_term)
        });
        match on_term {
            Some(code) => self.exit(&id, code, if code == 0 { "Completed" } else { "Error" }),
            None => {
                tokio::time::sleep(Duration::from_secs(request.timeout.unsigned_abs())).await;
                self.exit(&id, 137, "Error");
            }
        }
        Ok(StopContainerResponse {})
    }

    async fn remove_container(&self, request: RemoveContainerRequest) -> CriResult<RemoveContainerResponse> {
        self.with(|state| {
            let name = state.name_of(&request.container_id);
            state.note("RemoveContainer", &name);
            if let Some(one) = state.containers.remove(&request.container_id) {
                assert_ne!(
                    one.state,
                    ContainerState::ContainerRunning,
                    "a running container was removed"
                );
            }
        });
        Ok(RemoveContainerResponse {})
    }

    async fn list_containers(&self, _: ListContainersRequest) -> CriResult<ListContainersResponse> {
        self.with(|state| {
            let containers = state.containers.iter().map(|(id, one)| Container {
                id: id.clone(),
                pod_sandbox_id: one.sandbox.clone(),
                metadata: one.config.metadata.clone(),
                state: one.state as i32,
                labels: one.config.labels.clone(),
                annotations: one.config.annotations.clone(),
                ..Default::default()
            });
            Ok(ListContainersResponse {
                containers: containers.collect(),
            })
        })
    }

    async fn container_status(&self, request: ContainerStatusRequest) -> CriResult<ContainerStatusResponse> {
        self.with(|state| {
            let id = &request.container_id;
            let one = state
                .containers
                .get(id)
                .ok_or_else(|| CriError::not_found("no such container"))?;
            Ok(ContainerStatusResponse {
                status: Some(one.status(id)),
                ..Default::default()
            })
        })
    }

    async fn exec_sync(&self, request: ExecSyncRequest) -> CriResult<ExecSyncResponse> {
        let last = request.cmd.last().cloned().unwrap_or_default();
        if request.cmd.first().is_some_and(|word| word == "sleep") {
            tokio::time::sleep(Duration::from_secs(last.parse().unwrap())).await;
        }
        self.with(|state| {
            let name = state.name_of(&request.container_id);
            let runs = state
                .containers
                .get(&request.container_id)
                .is_some_and(|one| one.state == ContainerState::ContainerRunning);
            if !runs {
                return Err(CriError::not_found(format!(
                    "no running task found: task {} not found",
                    request.container_id
                )));
            }
            state.note("ExecSync", &format!("{name} {last}"));
            let results = state
                .behaviours
                .get_mut(&name)
                .and_then(|one| one.execs.get_mut(last.as_str()));
            let (exit_code, text) = match results {
                Some(results) if results.len() > 1 => results.pop_front().unwrap(),
                Some(results) => results.front().copied().unwrap_or_default(),
                None => (0, ""),
            };
            Ok(ExecSyncResponse {
                exit_code,
                stdout: text.as_bytes().to_vec(),
                ..Default::default()
            })
        })
    }

    async fn container_events(&self) -> CriResult<ContainerEvents> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.with(|state| state.subscribers.push(sender));
        Ok(futures::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        })
        .boxed())
    }

    async fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> CriResult<UpdateContainerResourcesResponse> {
        self.with(|state| {
            if let Some(error) = &state.update_error {
                return Err(CriError::unknown(error.clone()));
            }
            state.updates.push(request);
            Ok(UpdateContainerResourcesResponse::default())
        })
    }
    async fn reopen_container_log(
        &self,
        request: ReopenContainerLogRequest,
    ) -> CriResult<ReopenContainerLogResponse> {
        let path = self.with(|state| {
            let name = state.name_of(&request.container_id);
            state.note("ReopenContainerLog", &name);
            if state.reopen_fails {
                return Err(CriError::unknown("the shim does not answer"));
            }
            let one = &state.containers[&request.container_id];
            Ok(format!("{}/{}", one.logs, one.config.log_path))
        })?;
        std::fs::File::create_new(path).unwrap();
        Ok(ReopenContainerLogResponse {})
    }
    async fn exec(&self, _: ExecRequest) -> CriResult<ExecResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn attach(&self, _: AttachRequest) -> CriResult<AttachResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn port_forward(&self, _: PortForwardRequest) -> CriResult<PortForwardResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn container_stats(&self, _: ContainerStatsRequest) -> CriResult<ContainerStatsResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn list_container_stats(
        &self,
        _: ListContainerStatsRequest,
    ) -> CriResult<ListContainerStatsResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn pod_sandbox_stats(&self, _: PodSandboxStatsRequest) -> CriResult<PodSandboxStatsResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn list_pod_sandbox_stats(
        &self,
        _: ListPodSandboxStatsRequest,
    ) -> CriResult<ListPodSandboxStatsResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn update_runtime_config(
        &self,
        _: UpdateRuntimeConfigRequest,
    ) -> CriResult<UpdateRuntimeConfigResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn status(&self, _: StatusRequest) -> CriResult<StatusResponse> {
        Ok(StatusResponse::default())
    }
    async fn checkpoint_container(
        &self,
        _: CheckpointContainerRequest,
    ) -> CriResult<CheckpointContainerResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn list_metric_descriptors(
        &self,
        _: ListMetricDescriptorsRequest,
    ) -> CriResult<ListMetricDescriptorsResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn list_pod_sandbox_metrics(
        &self,
        _: ListPodSandboxMetricsRequest,
    ) -> CriResult<ListPodSandboxMetricsResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn runtime_config(&self, _: RuntimeConfigRequest) -> CriResult<RuntimeConfigResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn update_pod_sandbox_resources(
        &self,
        _: UpdatePodSandboxResourcesRequest,
    ) -> CriResult<UpdatePodSandboxResourcesResponse> {
        Err(CriError::unimplemented("fake"))
    }
}

#[async_trait]
impl ImageService for FakeRuntime {
    async fn image_status(&self, request: ImageStatusRequest) -> CriResult<ImageStatusResponse> {
        let name = request.image.unwrap().image;
        let known = self.with(|state| state.images.contains(&name) || name.starts_with("sha256:"));
        let image = Image {
            id: "sha256:7a15b0b0".into(),
            size: 1_036_977,
            ..Default::default()
        };
        Ok(ImageStatusResponse {
            image: known.then_some(image),
            ..Default::default()
        })
    }

    async fn pull_image(&self, request: PullImageRequest) -> CriResult<PullImageResponse> {
        let name = request.image.unwrap().image;
        let password = request.auth.map(|auth| auth.password);
        self.with(|state| {
            state.note("PullImage", &name);
            let now = state.pulling.0 + 1;
            state.pulling = (now, state.pulling.1.max(now));
        });
        self.work(2000).await;
        self.with(|state| {
            state.pulling.0 -= 1;
            if let Some(error) = &state.pull_error {
                return Err(CriError::unknown(error.clone()));
            }
            if state
                .passwords
                .get(&name)
                .is_some_and(|wanted| Some(wanted) != password.as_ref())
            {
                return Err(CriError::unknown("401 Unauthorized"));
            }
            state.images.push(name);
            Ok(PullImageResponse {
                image_ref: "sha256:7a15b0b0".into(),
            })
        })
    }

    async fn list_images(&self, _: ListImagesRequest) -> CriResult<ListImagesResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn remove_image(&self, _: RemoveImageRequest) -> CriResult<RemoveImageResponse> {
        Err(CriError::unimplemented("fake"))
    }
    async fn image_fs_info(&self, _: ImageFsInfoRequest) -> CriResult<ImageFsInfoResponse> {
        Err(CriError::unimplemented("fake"))
    }
}
