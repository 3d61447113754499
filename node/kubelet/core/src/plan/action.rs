//! Actions and events as values.

use std::collections::BTreeMap;

use jiff::Timestamp;
use knode_client::EventKind;

use crate::model::{ProbeKind, Wait};
use crate::pod::ContainerKind;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the volumes, or renew their content.
    MountVolumes,
    /// Make a sandbox.
    RunSandbox {
        /// Counts the pod's sandboxes from 0.
        attempt: u32,
    },
    /// Pull the image if needed, then create and start a container.
    Start {
        /// Its name.
        container: String,
        /// Its kind.
        kind: ContainerKind,
        /// Counts its restarts from 0.
        attempt: u32,
        /// The sandbox it goes into.
        sandbox_id: String,
        /// When its predecessor ended, which counts for back-off.
        ended: Option<Timestamp>,
    },
    /// Stop a container: event, preStop hook, signal.
    Stop {
        /// Its id.
        id: String,
        /// Its name.
        container: String,
        /// Seconds until it is killed.
        grace: i64,
        /// Text of the `Killing` event.
        message: String,
    },
    /// Stop a sandbox.
    StopSandbox {
        /// Its id.
        id: String,
    },
    /// Remove a container that has ended.
    RemoveContainer {
        /// Its id.
        id: String,
    },
    /// Remove a sandbox that is stopped and empty.
    RemoveSandbox {
        /// Its id.
        id: String,
    },
    /// Remember why a container does not run.
    Wait {
        /// Its name.
        container: String,
        /// Why.
        wait: Wait,
    },
    /// Write an event.
    Event(PodEvent),
    /// Remember that the event about the deadline is written.
    NoteDeadline,
    /// Count all containers but those for debugging as never started: the pod begins anew.
    Reset,
    /// Let the runtime change the limits of a container to what the pod says.
    Resize {
        /// Its id.
        id: String,
        /// Its name.
        container: String,
    },
    /// Run a probe.
    Probe {
        /// The container's id.
        id: String,
        /// Its name.
        container: String,
        /// Which probe.
        kind: ProbeKind,
    },
    /// Take away what the pod had on this node.
    Release {
        /// Containers, sandboxes, logs and directories too, not only volumes and cgroups.
        all: bool,
    },
    /// Tell the API that nothing of the deleted pod is left.
    Delete,
    /// Plan again then, if nothing happens before.
    WakeAt(Timestamp),
    /// Nothing is left to do for ever.
    Finish,
}

/// An event about the pod or one of its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodEvent {
    /// Its kind.
    pub kind: EventKind,
    /// `Started`, `BackOff`, …
    pub reason: String,
    /// For a person.
    pub message: String,
    /// The container it is about.
    pub container: Option<(ContainerKind, String)>,
    /// Its annotations.
    pub marks: BTreeMap<String, String>,
}

impl PodEvent {
    /// An event about the pod.
    pub fn pod(kind: EventKind, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.to_owned(),
            message: message.into(),
            container: None,
            marks: BTreeMap::new(),
        }
    }

    /// An event about a container.
    pub fn container(
        kind: EventKind,
        reason: &str,
        message: impl Into<String>,
        container: ContainerKind,
        name: &str,
    ) -> Self {
        let container = Some((container, name.to_owned()));
        Self {
            kind,
            reason: reason.to_owned(),
            message: message.into(),
            container,
            marks: BTreeMap::new(),
        }
    }

    /// `spec.containers{name}`, as `involvedObject.fieldPath` has it.
    pub fn field_path(&self) -> Option<String> {
        let (kind, name) = self.container.as_ref()?;
        let list = match kind {
            ContainerKind::Main => "containers",
            ContainerKind::Ephemeral => "ephemeralContainers",
            ContainerKind::Init | ContainerKind::Sidecar => "initContainers",
        };
        Some(format!("spec.{list}{{{name}}}"))
    }
}
