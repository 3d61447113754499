//! Containers.

pub(crate) mod apparmor;
mod cdi;
mod create;
mod ended;
mod exec;
pub(crate) mod groups;
mod host;
pub(crate) mod metrics;
mod pressure;
pub(crate) mod rate;
mod remove;
mod rootfs;
mod scope;
mod start;
mod stats;
mod stop;
mod update;
mod users;

use std::sync::{Mutex, PoisonError};

use knode_cri::{
    Container as CriContainer, ContainerResources, ContainerState, ContainerStatus, ContainerUser, ImageSpec,
    LinuxContainerUser,
};
use tokio::sync::watch;

use crate::error::{EngineError, Result};
use crate::state::ContainerRecord;

pub(crate) use exec::ExecStreams;
pub(crate) use host::{machine, own_capabilities};

/// A container of the engine.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox_id: String,
    record: Mutex<ContainerRecord>,
    /// True once it has ended and everything about that is written down.
    over: watch::Sender<bool>,
    /// Held while the container is being started, ended or removed.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Of its processor time.
    rate: rate::Rate,
}

impl Container {
    pub(crate) fn new(record: ContainerRecord) -> Self {
        Self {
            id: record.id.clone(),
            sandbox_id: record.sandbox_id.clone(),
            over: watch::Sender::new(record.ended.is_some()),
            record: Mutex::new(record),
            changing: tokio::sync::Mutex::new(()),
            rate: rate::Rate::default(),
        }
    }

    /// A copy of the record.
    pub(crate) fn record(&self) -> ContainerRecord {
        self.with(|record| record.clone())
    }

    /// Reads from the record.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&ContainerRecord) -> T) -> T {
        read(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the record; gives a copy to write down.
    pub(crate) fn change(&self, change: impl FnOnce(&mut ContainerRecord)) -> ContainerRecord {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut record);
        record.clone()
    }

    /// State as CRI names it.
    pub(crate) fn state(&self) -> ContainerState {
        self.with(state)
    }

    /// Tells those who wait that it is over.
    pub(crate) fn set_over(&self) {
        self.over.send_replace(true);
    }

    /// Waits until it is over.
    pub(crate) async fn wait_over(&self) {
        let mut over = self.over.subscribe();
        // The sender lives as long as the container, which is borrowed.
        let _ = over.wait_for(|over| *over).await;
    }

    pub(crate) fn to_cri(&self) -> CriContainer {
        self.with(|record| CriContainer {
            id: record.id.clone(),
            pod_sandbox_id: record.sandbox_id.clone(),
            metadata: record.config.metadata.clone(),
            image: record.config.image.clone(),
            image_ref: record.image_id.clone(),
            state: state(record) as i32,
            created_at: record.created_at,
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            image_id: record.image_id.clone(),
        })
    }

    pub(crate) fn status(&self) -> ContainerStatus {
        self.with(|record| {
            let ended = record.ended.clone();
            let linux = record.config.linux.clone();
            ContainerStatus {
                id: record.id.clone(),
                metadata: record.config.metadata.clone(),
                state: state(record) as i32,
                created_at: record.created_at,
                started_at: record.started.map_or(0, |started| started.at),
                finished_at: ended.as_ref().map_or(0, |ended| ended.at),
                exit_code: ended.as_ref().map_or(0, |ended| ended.code),
                image: Some(image_spec(record)),
                image_ref: image_ref(record),
                reason: ended
                    .as_ref()
                    .map(|ended| ended.reason.clone())
                    .unwrap_or_default(),
                message: ended.map(|ended| ended.message).unwrap_or_default(),
                labels: record.config.labels.clone(),
                annotations: record.config.annotations.clone(),
                mounts: record.config.mounts.clone(),
                log_path: record.log_path.display().to_string(),
                resources: linux
                    .and_then(|linux| linux.resources)
                    .map(|resources| ContainerResources {
                        linux: Some(resources),
                    }),
                image_id: record.image_id.clone(),
                user: Some(user(record)),
                stop_signal: crate::spec::signal::to_cri(record.stop_signal) as i32,
            }
        })
    }
}

fn state(record: &ContainerRecord) -> ContainerState {
    match (&record.started, &record.ended) {
        (_, Some(_)) => ContainerState::ContainerExited,
        (Some(_), None) => ContainerState::ContainerRunning,
        (None, None) => ContainerState::ContainerCreated,
    }
}

/// The image by its name, as upstream runtimes show it.
fn image_spec(record: &ContainerRecord) -> ImageSpec {
    let given = record.config.image.clone().unwrap_or_default();
    ImageSpec {
        image: record.image_name.clone(),
        user_specified_image: given.user_specified_image,
        ..given
    }
}

/// Records of earlier versions have the id alone.
fn image_ref(record: &ContainerRecord) -> String {
    let given = Some(&record.image_ref).filter(|name| !name.is_empty());
    given.unwrap_or(&record.image_id).clone()
}

fn user(record: &ContainerRecord) -> ContainerUser {
    let linux = LinuxContainerUser {
        uid: record.user.uid.into(),
        gid: record.user.gid.into(),
        supplemental_groups: record.user.groups.iter().map(|group| i64::from(*group)).collect(),
    };
    ContainerUser { linux: Some(linux) }
}

/// Name of a state in messages, as upstream's.
pub(crate) fn state_name(state: ContainerState) -> &'static str {
    state.as_str_name()
}

/// # Errors
/// [`EngineError::ContainerState`] for a container that does not run.
pub(crate) fn check_running(container: &Container) -> Result<()> {
    match container.state() {
        ContainerState::ContainerRunning => Ok(()),
        other => Err(EngineError::ContainerState {
            container: container.id.clone(),
            state: state_name(other),
        }),
    }
}
