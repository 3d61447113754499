//! What the kubelet's API needs to know of the pods on this node.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod};
use knode_linux::filewatch::FileSystemUsage;

/// How the node ends a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEviction {
    /// Why, for a person.
    pub message: String,
    /// Annotations of the Event that tells of it.
    pub marks: BTreeMap<String, String>,
    /// Seconds that the pod has, at most; 0 leaves it its own time.
    pub grace: i64,
    /// Whether it is ended for what the others need, and not for what it has done itself.
    pub for_others: bool,
    /// What the node ends it for.
    pub cause: EvictionCause,
}

/// What the node ends pods for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvictionCause {
    /// Something is scarce; critical pods stay.
    #[default]
    Scarcity,
    /// The machine shuts down; nobody stays.
    Shutdown,
}

/// The pods of this node as the pod workers know them.
#[async_trait]
pub trait PodSource: Send + Sync + 'static {
    /// All pods bound to this node, each with the kubelet's own latest status.
    fn pods(&self) -> Vec<Arc<Pod>>;

    /// Ends a pod, and comes back when it has ended. False if there is no such pod, or it must not be evicted.
    async fn evict(&self, uid: &str, eviction: PodEviction) -> bool;

    /// Takes away what is kept of pods that have ended, to free their space; comes back when it is gone.
    async fn clear_ended(&self) {}

    /// Told which images there are: the ids of all that the runtime had at `asked` or later.
    async fn images_listed(&self, _present: &BTreeSet<String>, _asked: Timestamp) {}

    /// How often each probe of the pods here gave what.
    fn probes(&self) -> Vec<ProbeCount> {
        Vec::new()
    }

    /// Claims whose file systems are mounted here.
    fn claimed_volumes(&self) -> Vec<ClaimedVolume> {
        Vec::new()
    }

    /// How full the driver of what is mounted at `path` says that it is; none where no driver tells.
    async fn volume_usage(&self, _path: &Path) -> Option<VolumeUsage> {
        None
    }

    /// One pod, with the kubelet's own latest status.
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let matches = |pod: &Arc<Pod>| {
            pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name)
        };
        self.pods().into_iter().find(matches)
    }
}

/// A claim's file system in a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimedVolume {
    /// The pod.
    pub uid: String,
    /// The volume's name in the pod.
    pub volume: String,
    /// The claim's namespace, which is the pod's.
    pub namespace: String,
    /// The claim.
    pub claim: String,
    /// Where it is mounted.
    pub path: PathBuf,
}

/// How full a volume is, by its driver: bytes and inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeUsage {
    /// As a file system's.
    pub fs: FileSystemUsage,
    /// Inodes in use.
    pub inodes_used: u64,
    /// Whether something is wrong with it, where the driver tells.
    pub abnormal: Option<bool>,
}

/// Results of one probe of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeCount {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// The container.
    pub container: String,
    /// `Startup`, `Liveness` or `Readiness`.
    pub kind: &'static str,
    /// How often it succeeded, failed, and could not be run.
    pub results: [u64; 3],
}

/// Why a container's log cannot be shown; the texts are upstream's (`validateContainerLogStatus`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodLookupError {
    /// No such pod here.
    #[error("pod {0:?} does not exist\n")]
    NoPod(String),
    /// The pod has no such container.
    #[error("container {container:?} not found in pod {pod:?}\n")]
    NoContainer {
        /// The container.
        container: String,
        /// The pod.
        pod: String,
    },
    /// The pod's status doesn't mention the container.
    #[error("container {container:?} in pod {pod:?} is not available")]
    NotAvailable {
        /// The container.
        container: String,
        /// The pod.
        pod: String,
    },
    /// There was no earlier run.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious {
        /// The container.
        container: String,
        /// The pod.
        pod: String,
    },
    /// It ended and its identity is not known.
    #[error("container {container:?} in pod {pod:?} is terminated")]
    Terminated {
        /// The container.
        container: String,
        /// The pod.
        pod: String,
    },
    /// It has not run yet.
    #[error("container {container:?} in pod {pod:?} is waiting to start{reason}")]
    Waiting {
        /// The container.
        container: String,
        /// The pod.
        pod: String,
        /// Why, with the separator in front.
        reason: String,
    },
}

impl PodLookupError {
    /// Whether the answer is 404 rather than 400.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NoPod(_) | Self::NoContainer { .. })
    }
}

/// Whether the pod's specification names this container (of any kind).
pub fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let in_list = |list: &[Container]| list.iter().any(|container| container.name == name);
    in_list(&spec.containers)
        || spec.init_containers.as_deref().is_some_and(in_list)
        || spec
            .ephemeral_containers
            .iter()
            .flatten()
            .any(|container| container.name == name)
}

/// The container's status, of whichever kind it is.
pub fn container_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|status| status.name == name)
}

/// The identity (without `runtime://`) of the run whose log is meant.
///
/// # Errors
/// [`PodLookupError`] if that run is not known or has not begun.
pub fn log_container_id(pod: &Pod, name: &str, previous: bool) -> Result<String, PodLookupError> {
    let container = name.to_owned();
    let pod_name = pod.metadata.name.clone().unwrap_or_default();
    let Some(status) = container_status(pod, name) else {
        return Err(PodLookupError::NotAvailable {
            container,
            pod: pod_name,
        });
    };
    let last = status.last_state.as_ref().and_then(terminated_id);
    let state = status.state.clone().unwrap_or_default();
    let id = if previous {
        last.ok_or(PodLookupError::NoPrevious {
            container,
            pod: pod_name,
        })?
    } else if state.running.is_some() {
        status.container_id.clone().unwrap_or_default()
    } else if state.terminated.is_some() {
        let known = terminated_id(&state).or(last);
        known.ok_or(PodLookupError::Terminated {
            container,
            pod: pod_name,
        })?
    } else if let Some(last) = last {
        last
    } else {
        let reason = waiting_reason(&state);
        return Err(PodLookupError::Waiting {
            container,
            pod: pod_name,
            reason,
        });
    };
    Ok(bare_id(&id).to_owned())
}

/// The identity (without `runtime://`) of the running container, to execute in or attach to.
pub fn running_container_id(pod: &Pod, name: &str) -> Option<String> {
    let status = container_status(pod, name)?;
    status.state.as_ref()?.running.as_ref()?;
    status.container_id.as_deref().map(|id| bare_id(id).to_owned())
}

fn bare_id(id: &str) -> &str {
    id.split_once("://").map_or(id, |(_, id)| id)
}

fn terminated_id(state: &ContainerState) -> Option<String> {
    state
        .terminated
        .as_ref()?
        .container_id
        .clone()
        .filter(|id| !id.is_empty())
}

fn waiting_reason(state: &ContainerState) -> String {
    let Some(waiting) = &state.waiting else {
        return " - no logs yet".to_owned();
    };
    match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull" => ": image can't be pulled".to_owned(),
        "ImagePullBackOff" => ": trying and failing to pull image".to_owned(),
        reason => format!(": {reason}"),
    }
}
