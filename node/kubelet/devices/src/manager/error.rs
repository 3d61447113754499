//! What goes wrong with plugins.

use std::io;
use std::path::PathBuf;

use knode_cri::CriError;

use crate::table::AllocationError;

/// Devices are not to be had, or not from this plugin.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// The directory is not there and cannot be made.
    #[error("creating {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Plugins cannot register.
    #[error("serving the registration of device plugins")]
    Serve(#[source] knode_cri::server::ServeError),
    /// The plugin speaks other versions (upstream's words).
    #[error(
        "requested API version {found:?} is not supported by kubelet. Supported version is [\"v1beta1\"]"
    )]
    Version {
        /// What it speaks.
        found: String,
    },
    /// The resource's name cannot be one (upstream's words).
    #[error("the ResourceName {0:?} is invalid")]
    Name(String),
    /// Nobody answers on the plugin's socket.
    #[error("failed to dial device plugin {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the transport said; none if it was too late.
        #[source]
        source: Option<tonic::transport::Error>,
    },
    /// The plugin did not say what it wants to be asked.
    #[error("failed to get device plugin options")]
    Options(#[source] CriError),
    /// There are not enough devices.
    #[error(transparent)]
    Allocation(#[from] AllocationError),
    /// The plugin is gone (upstream's words).
    #[error("endpoint {0} has been stopped")]
    Stopped(String),
    /// The plugin does not give what it has.
    #[error("{}", .0.rpc_text())]
    Allocate(CriError),
    /// The plugin gives nothing (upstream's words).
    #[error("no containers return in allocation response of {0}")]
    Nothing(String),
    /// The plugin did not say which devices it would rather give.
    #[error("device plugin GetPreferredAllocation rpc failed with err: {}", .0.rpc_text())]
    Preferred(CriError),
    /// The plugin could not make its devices ready.
    #[error("device plugin PreStartContainer rpc failed with err: {}", .0.rpc_text())]
    PreStart(CriError),
}

/// The node does not take a pod, for lack of devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// For the pod's status.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

impl From<DevicesError> for Rejected {
    fn from(error: DevicesError) -> Self {
        Self {
            reason: "UnexpectedAdmissionError",
            message: unexpected(&error),
        }
    }
}

/// Upstream's words around an error of admission.
pub(super) fn unexpected(error: &dyn std::error::Error) -> String {
    format!("Allocate failed due to {error}, which is unexpected")
}
