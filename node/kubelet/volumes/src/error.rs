//! Errors of planning, making and removing volumes.

use std::io;
use std::path::PathBuf;

use crate::fields::FieldError;
use crate::objects::ObjectError;

/// Why a volume could not be planned, made or removed. `Display` is the text that upstream's kubelet puts
/// into its `FailedMount` events after `MountVolume.SetUp failed for volume "…" : `.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The volume has a type, or asks for a feature, that is not implemented.
    #[error("unsupported volume: {what}")]
    Unsupported {
        /// Name of the type or feature.
        what: String,
    },
    /// The volume names no source at all.
    #[error("volume has no source")]
    NoSource,
    /// An object that the volume refers to does not exist.
    #[error("{kind} \"{name}\" not found")]
    NotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The object exists and lacks a key that the volume asks for.
    #[error("references non-existent {kind} key: {key}")]
    MissingKey {
        /// `config` or `secret`.
        kind: &'static str,
        /// The key.
        key: String,
    },
    /// A path of the volume is absolute or leaves the volume.
    #[error("invalid path \"{path}\": must be relative and not contain '..'")]
    BadPath {
        /// The path as written.
        path: String,
    },
    /// The API could not be asked.
    #[error("{0}")]
    Object(#[source] ObjectError),
    /// No trust bundle of a signer has the labels asked for.
    #[error(
        "combination of signerName {signer:?} and labelSelector {selector:?} matched zero ClusterTrustBundles"
    )]
    NoTrustBundle {
        /// The signer.
        signer: String,
        /// The selector.
        selector: String,
    },
    /// A claim has no volume that the pod may use; upstream's words.
    #[error("{0}")]
    Claim(String),
    /// A volume that is mounted whole could not be; the text begins with what was tried.
    #[error("{message}")]
    Driver {
        /// What was tried.
        phase: Phase,
        /// The volume's name: the PersistentVolume's, or the inline one's.
        volume: String,
        /// The driver's words, or the helper's.
        message: String,
    },
    /// A driver has to take something back first.
    #[error("a driver still has {path} published", path = .0.display())]
    StillPublished(PathBuf),
    /// No token could be had.
    #[error("failed to fetch token: {0}")]
    Token(#[source] ObjectError),
    /// A field of the pod cannot be put into a file.
    #[error("{0}")]
    Field(#[source] FieldError),
    /// A hostPath is not what its type says.
    #[error("hostPath type check failed: {path} is not a {wanted}")]
    HostPathType {
        /// The path on the host.
        path: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Several sources of a projected volume failed.
    #[error("[{}]", join(.0))]
    Several(Vec<VolumeError>),
    /// A system call failed.
    #[error("{operation} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something is still mounted below a directory that should be removed.
    #[error("{path} is still a mount point", path = .0.display())]
    StillMounted(PathBuf),
}

/// What is tried of a volume that is mounted whole, as upstream's events name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Looking at it.
    NewMounter,
    /// Waiting for its attachment.
    WaitForAttach,
    /// Staging it.
    MountDevice,
    /// Publishing it.
    SetUp,
    /// Staging or publishing it as a device.
    MapVolume,
    /// Making it larger.
    Expand,
    /// Taking it back.
    TearDown,
    /// Unstaging it.
    UnmountDevice,
    /// Asking how full it is.
    Usage,
}

impl Phase {
    fn words(self) -> &'static str {
        match self {
            Self::NewMounter => "MountVolume.NewMounter initialization",
            Self::WaitForAttach => "MountVolume.WaitForAttach",
            Self::MountDevice => "MountVolume.MountDevice",
            Self::SetUp => "MountVolume.SetUp",
            Self::MapVolume => "MapVolume.SetUpDevice",
            Self::Expand => "NodeExpandVolume.NodeExpandVolume",
            Self::TearDown => "UnmountVolume.TearDown",
            Self::UnmountDevice => "UnmountDevice",
            Self::Usage => "NodeGetVolumeStats",
        }
    }
}

fn join(errors: &[VolumeError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

impl VolumeError {
    /// What failed of a volume that is mounted whole.
    pub fn in_phase(phase: Phase, volume: &str, message: impl Into<String>) -> Self {
        Self::Driver {
            phase,
            volume: volume.to_owned(),
            message: message.into(),
        }
    }

    /// Reason and message of the event about a pod's volume, upstream's.
    pub fn event(&self, volume: &str) -> (&'static str, String) {
        match self {
            Self::Claim(why) => (
                "FailedMount",
                format!(
                    "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed \
                     to process volumes=[{volume}]: {why}"
                ),
            ),
            Self::Driver {
                phase,
                volume,
                message,
            } => {
                let reason = match phase {
                    Phase::Expand => "VolumeResizeFailed",
                    Phase::MapVolume => "FailedMapVolume",
                    _ => "FailedMount",
                };
                (
                    reason,
                    format!("{} failed for volume {volume:?} : {message}", phase.words()),
                )
            }
            other => {
                let message = format!("MountVolume.SetUp failed for volume {volume:?} : {other}");
                ("FailedMount", message)
            }
        }
    }

    /// An I/O error of `operation` on `path`.
    pub(crate) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Io {
            operation,
            path: path.into(),
            source: source.into(),
        }
    }
}
