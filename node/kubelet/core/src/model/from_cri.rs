//! From CRI messages to records.

use jiff::Timestamp;
use knode_cri as cri;

use super::{ContainerRecord, ContainerState, Sandbox, Use};
use crate::spec::labels;

/// A moment in nanoseconds since 1970; 0 and less mean never.
fn moment(nanos: i64) -> Option<Timestamp> {
    (nanos > 0)
        .then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok())
        .flatten()
}

/// What a `PodSandboxStatus` says.
pub fn sandbox_record(status: &cri::PodSandboxStatus) -> Sandbox {
    let network = status.network.as_ref();
    let first = network
        .map(|network| network.ip.clone())
        .filter(|ip| !ip.is_empty());
    let more = network
        .iter()
        .flat_map(|network| network.additional_ips.iter().map(|ip| ip.ip.clone()));
    Sandbox {
        id: status.id.clone(),
        attempt: status
            .metadata
            .as_ref()
            .map(|metadata| metadata.attempt)
            .unwrap_or_default(),
        ready: status.state() == cri::PodSandboxState::SandboxReady,
        ips: first.into_iter().chain(more).collect(),
        created_at: moment(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

/// The uid of the pod that a container belongs to.
pub fn container_uid(status: &cri::ContainerStatus) -> Option<&str> {
    status.labels.get(labels::POD_UID).map(String::as_str)
}

/// What a `ContainerStatus` says; `sandbox_id` is not in it, the caller knows it.
pub fn container_record(status: &cri::ContainerStatus, sandbox_id: &str) -> ContainerRecord {
    let metadata = status.metadata.clone().unwrap_or_default();
    let annotated = status
        .annotations
        .get(labels::RESTART_COUNT)
        .and_then(|count| count.parse().ok());
    ContainerRecord {
        id: status.id.clone(),
        name: status
            .labels
            .get(labels::CONTAINER_NAME)
            .cloned()
            .unwrap_or(metadata.name),
        sandbox_id: sandbox_id.to_owned(),
        attempt: annotated.unwrap_or(metadata.attempt),
        state: state(status.state()),
        created_at: moment(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        started_at: moment(status.started_at),
        finished_at: moment(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason.clone(),
        message: status.message.clone(),
        image: status
            .image
            .as_ref()
            .map(|image| image.image.clone())
            .unwrap_or_default(),
        image_id: status.image_ref.clone(),
        hash: status.annotations.get(labels::HASH).cloned().unwrap_or_default(),
        log_path: status.log_path.clone(),
        user: status
            .user
            .as_ref()
            .and_then(|user| user.linux.as_ref())
            .map(|user| Use {
                uid: user.uid,
                gid: user.gid,
                groups: user.supplemental_groups.clone(),
            }),
    }
}

fn state(state: cri::ContainerState) -> ContainerState {
    match state {
        cri::ContainerState::ContainerCreated => ContainerState::Created,
        cri::ContainerState::ContainerRunning => ContainerState::Running,
        cri::ContainerState::ContainerExited => ContainerState::Exited,
        cri::ContainerState::ContainerUnknown => ContainerState::Unknown,
    }
}
