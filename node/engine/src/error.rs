//! What can go wrong in the engine, one variant an operation.

use std::io;
use std::path::PathBuf;

pub(crate) use knode_cri::chain;
use knode_cri::{Code, CriError};
use knode_dbus::systemd::SystemdError;

use crate::net::NetError;
use crate::spec::SpecError;

/// Result of the engine's operations.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// Failure of an operation of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A file could not be handled.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No control groups.
    #[error("looking for control groups")]
    Cgroups(#[source] io::Error),
    /// A control group could not be handled.
    #[error("{operation} control group {}", path.display())]
    Cgroup {
        /// What was tried.
        operation: &'static str,
        /// The group.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An AppArmor profile could not be loaded.
    #[error("loading the AppArmor profile {profile}")]
    Profile {
        /// Its name.
        profile: &'static str,
        /// What the program that loads it said.
        #[source]
        source: io::Error,
    },
    /// A scope of systemd's could not be handled.
    #[error("{operation} scope {unit}")]
    Scope {
        /// What was tried.
        operation: &'static str,
        /// The unit.
        unit: String,
        /// What systemd said.
        #[source]
        source: Box<SystemdError>,
    },
    /// The namespaces of a sandbox could not be made.
    #[error("making the namespaces of sandbox {sandbox}")]
    Namespaces {
        /// Sandbox id.
        sandbox: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The pod network refused.
    #[error("failed to setup network for sandbox {sandbox:?}")]
    NetworkAdd {
        /// Sandbox id.
        sandbox: String,
        /// What the network said.
        #[source]
        source: NetError,
    },
    /// The pod network could not be taken away.
    #[error("failed to destroy network for sandbox {sandbox:?}")]
    NetworkRemove {
        /// Sandbox id.
        sandbox: String,
        /// What the network said.
        #[source]
        source: NetError,
    },
    /// The shim could not be started.
    #[error("starting the shim of sandbox {sandbox}")]
    ShimStart {
        /// Sandbox id.
        sandbox: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The shim is gone.
    #[error("the shim of sandbox {sandbox} is gone")]
    ShimGone {
        /// Sandbox id.
        sandbox: String,
    },
    /// The shim refused a request.
    #[error("{message}")]
    Shim {
        /// Its words.
        message: String,
    },
    /// No such sandbox.
    #[error("an error occurred when try to find sandbox {0:?}: not found")]
    SandboxNotFound(String),
    /// No such container.
    #[error("an error occurred when try to find container {0:?}: not found")]
    ContainerNotFound(String),
    /// The sandbox is not in a state for this.
    #[error("sandbox {sandbox} is not ready")]
    SandboxNotReady {
        /// Sandbox id.
        sandbox: String,
    },
    /// The container is not in a state for this.
    #[error("container {container} is in {state} state")]
    ContainerState {
        /// Container id.
        container: String,
        /// The state it is in, as CRI names it.
        state: &'static str,
    },
    /// What the container was to share does not run.
    #[error("container {target}, whose PID namespace is to be joined, is in {state} state")]
    TargetState {
        /// Id of the container that shares.
        target: String,
        /// The state it is in, as CRI names it.
        state: &'static str,
    },
    /// The name is taken.
    #[error("name {name:?} is reserved for {holder:?}")]
    NameTaken {
        /// Name with namespace, uid and attempt.
        name: String,
        /// Who has it.
        holder: String,
    },
    /// A part of the request is missing or wrong.
    #[error("{0}")]
    Invalid(String),
    /// Something valid that this engine does not do.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The configuration cannot be turned into a specification.
    #[error("failed to generate container {container:?} spec")]
    Spec {
        /// Container id.
        container: String,
        /// What is wrong.
        #[source]
        source: SpecError,
    },
    /// Images or snapshots failed.
    #[error(transparent)]
    Images(#[from] knode_images::Error),
    /// The container could not be started.
    #[error("OCI runtime create failed: unable to start container process: {message}")]
    Start {
        /// Why.
        message: String,
    },
    /// The command could not be started.
    #[error(
        "failed to exec in container: failed to start exec {id:?}: OCI runtime exec failed: exec failed: \
         unable to start container process: {message}"
    )]
    Exec {
        /// Id of the command.
        id: String,
        /// Why.
        message: String,
    },
    /// The command ran too long.
    #[error("failed to exec in container: timeout {seconds}s exceeded: context deadline exceeded")]
    ExecTimeout {
        /// The limit.
        seconds: i64,
    },
    /// The streaming server could not be started.
    #[error("starting the streaming server on {address}")]
    Streaming {
        /// Where.
        address: std::net::SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A task of this process died.
    #[error("an internal task ended early")]
    Task(#[from] tokio::task::JoinError),
}

impl EngineError {
    /// gRPC code that clients of CRI runtimes expect.
    fn code(&self) -> Code {
        match self {
            Self::SandboxNotFound(_) | Self::ContainerNotFound(_) => Code::NotFound,
            Self::Images(knode_images::Error::ImageNotFound(_)) => Code::NotFound,
            Self::Images(error) if error.is_absent() => Code::NotFound,
            Self::Invalid(_) | Self::Spec { .. } => Code::InvalidArgument,
            Self::Unsupported(_) => Code::Unimplemented,
            Self::NameTaken { .. } => Code::AlreadyExists,
            Self::ContainerState { .. } | Self::TargetState { .. } => Code::FailedPrecondition,
            Self::ExecTimeout { .. } => Code::DeadlineExceeded,
            _ => Code::Unknown,
        }
    }
}

impl From<EngineError> for CriError {
    fn from(error: EngineError) -> Self {
        let mut answer = CriError::from_chain(&error);
        answer.code = error.code();
        answer
    }
}

/// Adds what was tried to an input/output error.
pub(crate) trait FileContext<T> {
    /// `operation` is a participle: `writing`, `removing`.
    fn file(self, operation: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> FileContext<T> for io::Result<T> {
    fn file(self, operation: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| EngineError::File {
            operation,
            path: path.into(),
            source,
        })
    }
}
