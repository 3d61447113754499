//! Statuses of the containers (upstream: `convertToAPIContainerStatuses`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, LinuxContainerUser, Pod, ResourceRequirements,
    VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::NodeFacts;
use crate::model::{ContainerRecord, ContainerState, Observed, Wait};
use crate::plan::{done_for_good, has_started};
use crate::pod::{ContainerKind, PodExt, init_kind};
use crate::spec::container::recursive_read_only;

const LOST: &str = "The container could not be located when the pod was terminated";
const VANISHED: &str =
    "The container could not be located when the pod was deleted.  The container used to be Running";

/// What the statuses of a pod's containers are made of.
pub(super) struct View<'a> {
    pub pod: &'a Pod,
    pub observed: &'a Observed,
    pub node: &'a NodeFacts,
    pub now: Timestamp,
    /// The pod has ended for good.
    pub ended: bool,
}

impl View<'_> {
    /// Statuses of the init containers.
    pub fn inits(&self) -> Vec<ContainerStatus> {
        let all = self.pod.init_containers().iter();
        all.map(|container| self.one(init_kind(container), container))
            .collect()
    }

    /// Statuses of the pod's own containers.
    pub fn mains(&self) -> Vec<ContainerStatus> {
        let all = self.pod.main_containers().iter();
        all.map(|container| self.one(ContainerKind::Main, container))
            .collect()
    }

    /// Statuses of the containers for debugging.
    pub fn ephemerals(&self) -> Vec<ContainerStatus> {
        let all = self.pod.ephemeral_containers();
        all.iter()
            .map(|container| self.one(ContainerKind::Ephemeral, container))
            .collect()
    }

    fn one(&self, kind: ContainerKind, container: &Container) -> ContainerStatus {
        match self.observed.latest(&container.name) {
            Some(record) => self.known(kind, container, record),
            None => self.unknown(kind, container),
        }
    }

    /// The status of a container that exists in the runtime.
    fn known(&self, kind: ContainerKind, container: &Container, record: &ContainerRecord) -> ContainerStatus {
        let running = record.state == ContainerState::Running;
        let mut state = self.state(record);
        let mut last = self
            .observed
            .previous(&container.name)
            .map(|record| self.state(record))
            .unwrap_or_default();
        if last.terminated.is_none() {
            last = ApiState::default();
        }
        if let Some((reason, message)) = self.shown_wait(kind, container, record) {
            if state.terminated.is_some() {
                last = state;
            }
            state = waiting(&reason, &message);
        }
        let started =
            running && (kind == ContainerKind::Init || has_started(self.observed, container, record));
        let applied = self
            .observed
            .applied
            .get(&record.id)
            .or(container.resources.as_ref());
        let requests = container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.clone());
        ContainerStatus {
            name: container.name.clone(),
            state: Some(state),
            last_state: Some(last),
            ready: self.ready(kind, container, record),
            started: (kind != ContainerKind::Ephemeral).then_some(started),
            restart_count: i32::try_from(record.attempt).unwrap_or(i32::MAX),
            image: record.image.clone(),
            image_id: record.image_id.clone(),
            container_id: Some(self.id(record)),
            resources: Some(shown_resources(applied)),
            allocated_resources: requests.filter(|requests| !requests.is_empty()),
            user: user(record),
            volume_mounts: volume_mounts(container, self.node.recursive_read_only),
            ..ContainerStatus::default()
        }
    }

    /// The status of a container that does not exist in the runtime.
    fn unknown(&self, kind: ContainerKind, container: &Container) -> ContainerStatus {
        let old = self.old(&container.name);
        let before = old.filter(|old| old.container_id.as_deref().is_some_and(|id| !id.is_empty()));
        let wait = self.visible_wait(&container.name).filter(|_| !self.ending());
        let default = match self.pod.init_containers().is_empty() {
            true => "ContainerCreating",
            false => "PodInitializing",
        };
        let lost = self.ended && kind == ContainerKind::Main && self.initialized();
        let state = match wait {
            _ if lost => terminated_unknown(LOST, None),
            Some((reason, message)) => waiting(&reason, &message),
            None => waiting(default, ""),
        };
        let base = ContainerStatus {
            name: container.name.clone(),
            state: Some(state),
            last_state: Some(ApiState::default()),
            started: (kind != ContainerKind::Ephemeral).then_some(false),
            image: container.image.clone().unwrap_or_default(),
            volume_mounts: volume_mounts(container, self.node.recursive_read_only),
            ..ContainerStatus::default()
        };
        match before {
            Some(old) if self.ended => ended_copy(old),
            Some(old) => vanished(base, old),
            None => base,
        }
    }

    fn old(&self, name: &str) -> Option<&ContainerStatus> {
        let status = self.pod.api_status()?;
        let all = [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ];
        all.into_iter()
            .flatten()
            .flatten()
            .find(|status| status.name == name)
    }

    fn ending(&self) -> bool {
        self.ended || self.observed.removed || self.pod.is_deleted()
    }

    /// Whether the pod's own containers may have been started.
    fn initialized(&self) -> bool {
        self.pod.init_containers().iter().all(|container| {
            let record = self.observed.latest(&container.name);
            record.is_some_and(|record| init_kind(container) == ContainerKind::Sidecar || record.succeeded())
        })
    }

    /// Why the container waits, if it is to be started again.
    fn shown_wait(
        &self,
        kind: ContainerKind,
        container: &Container,
        record: &ContainerRecord,
    ) -> Option<(String, String)> {
        let policy = self.pod.policy_after(container, record.exit_code);
        let again = match kind {
            ContainerKind::Main => !done_for_good(policy, record),
            ContainerKind::Sidecar => true,
            ContainerKind::Ephemeral => false,
            ContainerKind::Init => !record.succeeded() && !done_for_good(policy, record),
        };
        if !record.is_down() || !again || self.ending() {
            return None;
        }
        self.visible_wait(&container.name)
    }

    fn visible_wait(&self, name: &str) -> Option<(String, String)> {
        let wait: &Wait = self.observed.waits.get(name)?;
        match wait.visible_from <= self.now {
            true => Some((wait.reason.clone(), wait.message.clone())),
            false => wait.previous.clone(),
        }
    }

    fn id(&self, record: &ContainerRecord) -> String {
        format!("{}://{}", self.node.runtime_name, record.id)
    }

    fn ready(&self, kind: ContainerKind, container: &Container, record: &ContainerRecord) -> bool {
        match kind {
            ContainerKind::Init => record.succeeded(),
            ContainerKind::Ephemeral => false,
            _ if record.state != ContainerState::Running => false,
            _ => match self.observed.probes.get(&record.id) {
                Some(probes) => probes.ready(),
                None => container.readiness_probe.is_none() && container.startup_probe.is_none(),
            },
        }
    }

    fn state(&self, record: &ContainerRecord) -> ApiState {
        match record.state {
            ContainerState::Running => ApiState {
                running: Some(ContainerStateRunning {
                    started_at: record.started_at.map(Time),
                }),
                ..ApiState::default()
            },
            ContainerState::Exited => ApiState {
                terminated: Some(self.end(record)),
                ..ApiState::default()
            },
            ContainerState::Created => waiting("ContainerCreating", ""),
            ContainerState::Unknown => terminated_unknown(LOST, Some(self.id(record))),
        }
    }

    fn end(&self, record: &ContainerRecord) -> ContainerStateTerminated {
        let default = if record.exit_code == 0 {
            "Completed"
        } else {
            "Error"
        };
        let reason = if record.reason.is_empty() {
            default
        } else {
            &record.reason
        };
        ContainerStateTerminated {
            container_id: Some(self.id(record)),
            exit_code: record.exit_code,
            finished_at: record.finished_at.map(Time),
            message: Some(record.message.clone()).filter(|message| !message.is_empty()),
            reason: Some(reason.to_owned()),
            signal: None,
            started_at: Some(Time(record.started_at.unwrap_or(Timestamp::UNIX_EPOCH))),
        }
    }
}

/// Whether the pod has ended without this container ever having been there.
pub(super) fn never_ran(status: &ContainerStatus) -> bool {
    let end = status.state.as_ref().and_then(|state| state.terminated.as_ref());
    end.is_some_and(|end| end.container_id.is_none() && end.message.as_deref() == Some(LOST))
}

fn waiting(reason: &str, message: &str) -> ApiState {
    let message = Some(message.to_owned()).filter(|message| !message.is_empty());
    ApiState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..ApiState::default()
    }
}

fn terminated_unknown(message: &str, container_id: Option<String>) -> ApiState {
    let end = ContainerStateTerminated {
        container_id,
        exit_code: 137,
        message: Some(message.to_owned()),
        reason: Some("ContainerStatusUnknown".to_owned()),
        ..ContainerStateTerminated::default()
    };
    ApiState {
        terminated: Some(end),
        ..ApiState::default()
    }
}

/// What is left of a container that ran and of which the runtime knows nothing, when it should run again.
fn vanished(base: ContainerStatus, old: &ContainerStatus) -> ContainerStatus {
    let ended = old
        .state
        .as_ref()
        .filter(|state| state.terminated.is_some())
        .cloned();
    let last = ended.unwrap_or_else(|| terminated_unknown(VANISHED, old.container_id.clone()));
    ContainerStatus {
        last_state: Some(last),
        restart_count: old.restart_count,
        ..base
    }
}

/// The same when it should not.
fn ended_copy(old: &ContainerStatus) -> ContainerStatus {
    let mut copy = old.clone();
    copy.ready = false;
    copy.started = Some(false);
    if copy.state.as_ref().is_none_or(|state| state.terminated.is_none()) {
        copy.state = Some(terminated_unknown(LOST, old.container_id.clone()));
    }
    copy
}

fn shown_resources(resources: Option<&ResourceRequirements>) -> ResourceRequirements {
    let resources = resources.cloned().unwrap_or_default();
    ResourceRequirements {
        claims: None,
        limits: resources.limits.filter(|limits| !limits.is_empty()),
        requests: resources.requests.filter(|requests| !requests.is_empty()),
    }
}

fn user(record: &ContainerRecord) -> Option<ContainerUser> {
    let user = record.user.as_ref()?;
    let linux = LinuxContainerUser {
        gid: user.gid,
        uid: user.uid,
        supplemental_groups: Some(user.groups.clone()).filter(|groups| !groups.is_empty()),
    };
    Some(ContainerUser { linux: Some(linux) })
}

fn volume_mounts(container: &Container, recursive: bool) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container
        .volume_mounts
        .as_ref()
        .filter(|mounts| !mounts.is_empty())?;
    let one = |mount: &k8s_openapi::api::core::v1::VolumeMount| {
        let read_only = mount.read_only.filter(|read_only| *read_only);
        VolumeMountStatus {
            mount_path: mount.mount_path.clone(),
            name: mount.name.clone(),
            read_only,
            recursive_read_only: read_only.map(|_| {
                // One that cannot be has not been mounted.
                let enabled = recursive_read_only(mount, recursive).unwrap_or(false);
                if enabled { "Enabled" } else { "Disabled" }.to_owned()
            }),
            ..VolumeMountStatus::default()
        }
    };
    Some(mounts.iter().map(one).collect())
}
