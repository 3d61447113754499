//! Measuring, and carrying out what follows.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use knode_client::Clock;
use knode_cri::{ContainerStats, ListContainerStatsRequest, ListPodSandboxStatsRequest};
use knode_linux::cgroup::{self, Cgroups};
use knode_linux::filewatch;
use tokio::sync::watch;

use super::message::message;
use super::observe::{Observations, Sample};
use super::rank::{ContainerUse, PodUse, rank};
use super::signal::Signal;
use super::state::{EvictionState, is_met};
use super::threshold::Threshold;
use super::{disk, local};
use crate::agent::{NodeDeps, node_reference};
use crate::config::NodeConfig;
use crate::garbage::ImageGc;
use crate::pods::{EvictionCause, PodEviction};
use crate::status::Pressure;
use crate::{Error, Result, machine};

/// Seconds that a pod has which is ended for a limit without grace.
const IMMEDIATE: i64 = 1;
/// How long to wait for the end of an evicted pod before the next look.
const CLEANUP: Duration = Duration::from_secs(30);
const UID: &str = "io.kubernetes.pod.uid";
const NAME: &str = "io.kubernetes.container.name";

/// Looks at what the machine has left, and ends pods when it is too little.
pub(crate) struct EvictionManager {
    config: NodeConfig,
    deps: NodeDeps,
    images: Arc<ImageGc>,
    state: EvictionState,
    pressure: watch::Sender<Pressure>,
}

impl EvictionManager {
    /// With a first look, so that the node registers with true conditions.
    ///
    /// # Errors
    /// [`Error::Machine`] if the machine cannot be inspected.
    pub(crate) fn new(mut config: NodeConfig, deps: NodeDeps, images: Arc<ImageGc>) -> Result<Self> {
        if config.pods_cgroup.is_some() {
            config.eviction = config.eviction.for_allocatable();
        }
        let mut state = EvictionState::default();
        let seen = observe(&config, None)?;
        let step = state.step(&config.eviction, &seen, deps.clock.monotonic());
        let (pressure, _) = watch::channel(step.pressure);
        Ok(Self {
            config,
            deps,
            images,
            state,
            pressure,
        })
    }

    /// What is scarce, as it changes.
    pub(crate) fn pressure(&self) -> watch::Receiver<Pressure> {
        self.pressure.subscribe()
    }

    /// Works for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let ended = self.look().await.unwrap_or_else(|error| {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "cannot see what the machine has left");
                false
            });
            // There may be more to end.
            if !ended {
                self.clock().sleep(self.config.eviction.interval).await;
            }
        }
    }

    fn clock(&self) -> &dyn Clock {
        self.deps.clock.as_ref()
    }

    /// Looks once; whether a pod was ended.
    async fn look(&mut self) -> Result<bool> {
        let image_path = self.images.path().await;
        let seen = observe(&self.config, image_path.as_deref())?;
        let step = self
            .state
            .step(&self.config.eviction, &seen, self.deps.clock.monotonic());
        self.pressure
            .send_if_modified(|old| std::mem::replace(old, step.pressure) != step.pressure);
        if self.evict_large().await {
            return Ok(true);
        }
        let Some(threshold) = step.reclaim.first() else {
            return Ok(false);
        };
        let resource = threshold.signal.resource();
        tracing::warn!(signal = %threshold.signal, "too little is left");
        if let Some(recorder) = &self.deps.recorder {
            let node = node_reference(&self.config.node_name);
            recorder.warning(
                node,
                "EvictionThresholdMet",
                format!("Attempting to reclaim {resource}"),
            );
        }
        if self
            .freed_otherwise(threshold.signal, image_path.as_deref())
            .await?
        {
            return Ok(false);
        }
        Ok(self.evict_one(threshold, &seen).await)
    }

    /// Removes what is left of ended pods, and unused images, where that frees what is scarce; whether it was enough.
    async fn freed_otherwise(&self, signal: Signal, image_path: Option<&Path>) -> Result<bool> {
        let shared = image_path.is_none_or(|path| same_device(path, &self.config.root_dir));
        let helps = signal.is_imagefs() || (signal.is_disk() && shared);
        if !helps {
            return Ok(false);
        }
        tokio::select! {
            () = self.deps.pods.clear_ended() => {}
            () = self.clock().sleep(CLEANUP) => tracing::warn!("what is left of ended pods takes long to go"),
        }
        self.images.delete_unused().await;
        let seen = observe(&self.config, image_path)?;
        let mut all = self.config.eviction.thresholds.iter();
        Ok(!all.any(|threshold| is_met(threshold, &seen, true)))
    }

    async fn evict_one(&self, threshold: &Threshold, seen: &Observations) -> bool {
        let all = self.uses(threshold.signal, |_| true).await;
        let pods = rank(threshold.signal, all);
        let grace = match threshold.grace {
            Some(_) => self.config.eviction.max_pod_grace,
            None => IMMEDIATE,
        };
        for used in pods {
            let (message, marks) = message(threshold, seen, &used);
            let eviction = PodEviction {
                message,
                marks,
                grace,
                for_others: true,
                cause: EvictionCause::Scarcity,
            };
            if self.evict(&used.pod, eviction).await {
                self.deps.metrics.node.evicted(threshold.signal.name());
                return true;
            }
        }
        tracing::error!("there is no pod that could be evicted");
        false
    }

    /// Ends pods that hold more of the disk than they may; whether there were any.
    async fn evict_large(&self) -> bool {
        let pods = self.deps.pods.pods();
        if !pods.iter().any(|pod| is_active(pod) && local::is_limited(pod)) {
            return false;
        }
        let mut any = false;
        for used in self.uses(Signal::NodefsAvailable, local::is_limited).await {
            let Some(excess) = local::over_limit(&used) else {
                continue;
            };
            let eviction = PodEviction {
                message: excess.message,
                marks: BTreeMap::new(),
                grace: IMMEDIATE,
                for_others: false,
                cause: EvictionCause::Scarcity,
            };
            if self.evict(&used.pod, eviction).await {
                self.deps.metrics.node.evicted(excess.signal);
                any = true;
            }
        }
        any
    }

    async fn evict(&self, pod: &Pod, eviction: PodEviction) -> bool {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let text = eviction.message.clone();
        let ended = tokio::select! {
            ended = self.deps.pods.evict(&uid, eviction) => ended,
            () = self.clock().sleep(CLEANUP) => {
                tracing::warn!(uid, "an evicted pod takes long to end");
                true
            }
        };
        if ended {
            tracing::warn!(uid, pod = pod.metadata.name, message = text, "pod evicted");
        }
        ended
    }

    /// What each of the `wanted` pods that has not ended uses.
    async fn uses(&self, signal: Signal, wanted: impl Fn(&Pod) -> bool) -> Vec<PodUse> {
        let answer = self
            .deps
            .runtime
            .list_container_stats(ListContainerStatsRequest::default())
            .await;
        let stats = answer.map(|answer| answer.stats).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot see what containers use");
            Vec::new()
        });
        let processes = match signal {
            Signal::PidAvailable => self.processes().await,
            _ => BTreeMap::new(),
        };
        let pods: Vec<Arc<Pod>> = self
            .deps
            .pods
            .pods()
            .into_iter()
            .filter(|pod| is_active(pod) && wanted(pod))
            .collect();
        let directories = (self.config.root_dir.clone(), self.config.pod_logs_dir.clone());
        let measured = tokio::task::spawn_blocking(move || {
            let used = |pod: Arc<Pod>| use_of(pod, &stats, &processes, &directories, signal.is_disk());
            pods.into_iter().map(used).collect()
        });
        measured.await.unwrap_or_default()
    }

    /// Processes by the pod's uid, where the runtime counts them.
    async fn processes(&self) -> BTreeMap<String, u64> {
        let answer = self
            .deps
            .runtime
            .list_pod_sandbox_stats(ListPodSandboxStatsRequest::default())
            .await;
        let stats = answer.map(|answer| answer.stats).unwrap_or_default();
        let count = |one: knode_cri::PodSandboxStats| {
            let uid = one.attributes?.metadata?.uid;
            Some((uid, one.linux?.process?.process_count?.value))
        };
        stats.into_iter().filter_map(count).collect()
    }
}

fn observe(config: &NodeConfig, image_path: Option<&Path>) -> Result<Observations> {
    let usage = |path: &Path| {
        filewatch::file_system_usage(path).map_err(|source| Error::Machine {
            what: path.display().to_string(),
            source,
        })
    };
    let (tasks, max_tasks) = machine::processes()?;
    let (memory_available, memory) = machine::memory()?;
    let sample = Sample {
        memory_available,
        memory,
        pods_memory: config.pods_cgroup.as_deref().and_then(pods_memory),
        nodefs: usage(&config.root_dir)?,
        // A directory that the runtime has not made yet says nothing.
        imagefs: image_path.and_then(|path| usage(path).ok()),
        tasks,
        max_tasks,
    };
    Ok(sample.observations())
}

/// What all pods use of their memory, and how much that is; none before their group is there and limited.
fn pods_memory(group: &Path) -> Option<(u64, u64)> {
    let cgroups = Cgroups::detect(Path::new(cgroup::DEFAULT_ROOT)).ok()?;
    let memory = cgroups.usage(group).ok()?.memory;
    Some((memory.working_set, memory.limit?))
}

fn same_device(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    device(one) == device(other)
}

fn is_active(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Names of the emptyDir volumes that lie on the disk.
fn empty_dirs(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let on_disk = volumes.filter(|volume| {
        let medium = volume
            .empty_dir
            .as_ref()
            .map(|one| one.medium.as_deref().unwrap_or(""));
        medium == Some("")
    });
    on_disk.map(|volume| volume.name.clone()).collect()
}

fn use_of(
    pod: Arc<Pod>,
    stats: &[ContainerStats],
    processes: &BTreeMap<String, u64>,
    (root, logs): &(PathBuf, PathBuf),
    with_disk: bool,
) -> PodUse {
    let metadata = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let uid = text(&metadata.uid);
    let logs = logs.join(format!(
        "{}_{}_{uid}",
        text(&metadata.namespace),
        text(&metadata.name)
    ));
    let size = |path: &Path| match with_disk {
        true => disk::usage(path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "cannot see what a pod uses of the disk");
            (0, 0)
        }),
        false => (0, 0),
    };
    let directory = root
        .join("pods")
        .join(&uid)
        .join("volumes/kubernetes.io~empty-dir");
    let mut inodes = 0;
    let mut volumes = BTreeMap::new();
    for name in empty_dirs(&pod) {
        let (bytes, files) = size(&directory.join(&name));
        volumes.insert(name, bytes);
        inodes += files;
    }
    let mut containers = Vec::new();
    for one in stats {
        let attributes = one.attributes.clone().unwrap_or_default();
        if attributes.labels.get(UID) != Some(&uid) {
            continue;
        }
        let name = attributes.labels.get(NAME).cloned().unwrap_or_default();
        let own = size(&logs.join(&name));
        let layer = one.writable_layer.as_ref();
        inodes += own.1
            + layer
                .and_then(|layer| layer.inodes_used)
                .map_or(0, |count| count.value);
        let memory = one.memory.as_ref().and_then(|memory| memory.working_set_bytes);
        containers.push(ContainerUse {
            name,
            memory: memory.map_or(0, |bytes| bytes.value),
            disk: own.0
                + layer
                    .and_then(|layer| layer.used_bytes)
                    .map_or(0, |bytes| bytes.value),
        });
    }
    PodUse {
        processes: processes.get(&uid).copied().unwrap_or(0),
        containers,
        volumes,
        inodes,
        pod,
    }
}
