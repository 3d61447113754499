//! What operations come back with.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::resize::Granted;
use crate::api::PodApiError;
use crate::model::{ContainerRecord, ProbeKind, ProbeOutcome, Sandbox};

/// Result of an operation.
pub(crate) enum Outcome {
    /// The volumes are there until they should be renewed, or not.
    Volumes(Result<Option<Timestamp>, ()>),
    /// A sandbox was made, or not.
    Sandbox(Result<Sandbox, ()>),
    /// A container was started, or not.
    Started {
        /// Its name.
        container: String,
        /// What the runtime has of it, if anything.
        record: Option<Box<ContainerRecord>>,
        /// Why it does not run.
        failure: Option<StartFailure>,
    },
    /// A container was stopped: what the runtime says about it now; `None` if it has none of that id.
    Stopped {
        /// Its id.
        id: String,
        /// What the runtime says.
        record: Option<Box<ContainerRecord>>,
    },
    /// A sandbox was stopped, or not.
    SandboxStopped {
        /// Its id.
        id: String,
        /// Whether it was.
        done: bool,
    },
    /// What the runtime says about a sandbox; `None` if it has none of that id.
    SandboxLooked {
        /// Its id.
        id: String,
        /// What the runtime says.
        sandbox: Option<Sandbox>,
    },
    /// A container was removed, or not.
    Removed {
        /// Its id.
        id: String,
        /// Whether it was.
        done: bool,
    },
    /// A sandbox was removed, or not.
    SandboxRemoved {
        /// Its id.
        id: String,
        /// Whether it was.
        done: bool,
    },
    /// The limits of a container were changed, or not.
    Resized {
        /// Its id.
        id: String,
        /// What it runs with now, or why not.
        result: Result<Granted, String>,
    },
    /// A probe was run.
    Probed {
        /// The container.
        id: String,
        /// Which probe.
        kind: ProbeKind,
        /// What it gave.
        outcome: ProbeOutcome,
    },
    /// What the runtime says about a container; `None` if it has none of that id.
    Looked {
        /// Its id.
        id: String,
        /// What the runtime says.
        record: Option<Box<ContainerRecord>>,
    },
    /// What the pod had is given back, or not.
    Released {
        /// Containers, sandboxes and directories too.
        all: bool,
        /// Whether all of it was.
        done: bool,
    },
    /// The pod is deleted, or not.
    Deleted(Result<(), PodApiError>),
    /// The status is written, or not.
    Status(Result<Box<Pod>, PodApiError>),
}

/// Why a container was not started.
#[derive(Debug, Clone)]
pub(crate) struct StartFailure {
    /// `ErrImagePull`, `CreateContainerError`, …
    pub reason: &'static str,
    /// For the status.
    pub message: String,
    /// The image whose pull failed.
    pub image: Option<String>,
    /// The pod is ending; nothing to report.
    pub cancelled: bool,
}
