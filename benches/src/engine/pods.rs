//! Pods through CRI, timed at the client.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt};
use knode_cri::client::RemoteRuntime;
use knode_cri::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ExecSyncRequest, ImageService, ImageSpec,
    LinuxContainerConfig, LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PullImageRequest,
    RemoveContainerRequest, RemoveImageRequest, RemovePodSandboxRequest, RunPodSandboxRequest,
    RuntimeService, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};

use super::contender::CGROUP;
use super::watch::Watch;

/// What a container says first; it ends when it is asked to.
const SCRIPT: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait; done";
const READY: &str = "ready";
const LOG: &str = "c.log";
/// Grace in seconds, which no container needs.
const GRACE: i64 = 10;
/// Of many pods, how many are worked on at a time.
const AT_ONCE: usize = 8;

/// One engine with one runtime handler.
pub struct Bench<'a> {
    pub engine: &'a RemoteRuntime,
    pub handler: &'a str,
    pub image: &'a str,
    pub logs: PathBuf,
}

/// A pod with its one container.
pub struct Pod {
    sandbox: String,
    container: String,
}

/// How long each call took, in their order.
pub struct Laps {
    last: Instant,
    pub calls: Vec<(&'static str, Duration)>,
}

impl Laps {
    fn begin() -> Self {
        Self {
            last: Instant::now(),
            calls: Vec::new(),
        }
    }

    fn lap(&mut self, call: &'static str) {
        let now = Instant::now();
        self.calls.push((call, now - self.last));
        self.last = now;
    }

    /// All of them together.
    pub fn total(&self) -> Duration {
        self.calls.iter().map(|(_, taken)| *taken).sum()
    }
}

impl Bench<'_> {
    fn sandbox_config(&self, name: &str) -> PodSandboxConfig {
        let name = format!("{name}-{}", self.handler);
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                uid: name.clone(),
                name: name.clone(),
                namespace: "bench".into(),
                attempt: 0,
            }),
            log_directory: self.logs.join(&name).display().to_string(),
            hostname: name,
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: CGROUP.into(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(as_of_a_kubelet()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn container_config(&self) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: "c".into(),
                attempt: 0,
            }),
            image: Some(spec(self.image)),
            command: ["sh", "-c", SCRIPT].map(str::to_owned).into(),
            log_path: LOG.into(),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(as_of_a_kubelet()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// From nothing to the container's first output.
    pub async fn start(&self, name: &str) -> anyhow::Result<(Pod, Laps)> {
        let config = self.sandbox_config(name);
        let directory = PathBuf::from(&config.log_directory);
        let watch = Watch::begin(&directory)?;
        let mut laps = Laps::begin();
        let run = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: self.handler.to_owned(),
        };
        let sandbox = self.engine.run_pod_sandbox(run).await?.pod_sandbox_id;
        laps.lap("RunPodSandbox");
        let create = CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(self.container_config()),
            sandbox_config: Some(config),
        };
        let container = self.engine.create_container(create).await?.container_id;
        laps.lap("CreateContainer");
        let start = StartContainerRequest {
            container_id: container.clone(),
        };
        self.engine.start_container(start).await?;
        laps.lap("StartContainer");
        watch.until(&directory.join(LOG), READY).await?;
        laps.lap("first output");
        Ok((Pod { sandbox, container }, laps))
    }

    /// Stops and removes the container, then the sandbox.
    pub async fn end(&self, pod: Pod) -> anyhow::Result<Laps> {
        let Pod { sandbox, container } = pod;
        let mut laps = Laps::begin();
        let stop = StopContainerRequest {
            container_id: container.clone(),
            timeout: GRACE,
        };
        self.engine.stop_container(stop).await?;
        laps.lap("StopContainer");
        let remove = RemoveContainerRequest {
            container_id: container,
        };
        self.engine.remove_container(remove).await?;
        laps.lap("RemoveContainer");
        let stop = StopPodSandboxRequest {
            pod_sandbox_id: sandbox.clone(),
        };
        self.engine.stop_pod_sandbox(stop).await?;
        laps.lap("StopPodSandbox");
        let remove = RemovePodSandboxRequest {
            pod_sandbox_id: sandbox,
        };
        self.engine.remove_pod_sandbox(remove).await?;
        laps.lap("RemovePodSandbox");
        Ok(laps)
    }

    /// Commands in one container, one after another.
    pub async fn commands(&self, count: usize) -> anyhow::Result<Vec<Duration>> {
        let (pod, _) = self.start("exec").await?;
        let mut taken = Vec::new();
        for _ in 0..count {
            let request = ExecSyncRequest {
                container_id: pod.container.clone(),
                cmd: vec!["true".into()],
                timeout: 10,
            };
            let started = Instant::now();
            let answer = self.engine.exec_sync(request).await?;
            taken.push(started.elapsed());
            ensure!(answer.exit_code == 0, "true: exit code {}", answer.exit_code);
        }
        self.end(pod).await?;
        Ok(taken)
    }

    /// So many pods, some at a time; the time of all together.
    pub async fn start_many(&self, count: usize) -> anyhow::Result<(Vec<Pod>, Duration)> {
        let started = Instant::now();
        let pods = futures::stream::iter(0..count)
            .map(|n| async move { self.start(&format!("bulk-{count}-{n}")).await })
            .buffer_unordered(AT_ONCE)
            .map_ok(|(pod, _)| pod)
            .try_collect()
            .await?;
        Ok((pods, started.elapsed()))
    }

    /// Ends them; the time of all together.
    pub async fn end_many(&self, pods: Vec<Pod>) -> anyhow::Result<Duration> {
        let started = Instant::now();
        futures::stream::iter(pods)
            .map(|pod| self.end(pod))
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok(started.elapsed())
    }
}

/// What a kubelet asks for unless a pod wants its containers to share their processes.
fn as_of_a_kubelet() -> NamespaceOption {
    NamespaceOption {
        pid: NamespaceMode::Container.into(),
        ..Default::default()
    }
}

fn spec(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    }
}

/// Pulls an image.
pub async fn pull(engine: &RemoteRuntime, image: &str) -> anyhow::Result<Duration> {
    let request = PullImageRequest {
        image: Some(spec(image)),
        auth: None,
        sandbox_config: None,
    };
    let started = Instant::now();
    engine
        .pull_image(request)
        .await
        .with_context(|| format!("pull {image}"))?;
    Ok(started.elapsed())
}

/// Removes an image.
pub async fn forget(engine: &RemoteRuntime, image: &str) -> anyhow::Result<()> {
    let request = RemoveImageRequest {
        image: Some(spec(image)),
    };
    engine.remove_image(request).await?;
    Ok(())
}
