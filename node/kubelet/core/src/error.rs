//! Errors of the pod side of the kubelet.

use knode_cri::CriError;
use knode_volumes::{FieldError, ObjectError, VolumeError};

/// The kubelet could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime did not say its name.
    #[error("cannot reach the container runtime")]
    Runtime(#[source] CriError),
    /// What the runtime has could not be listed.
    #[error("cannot list what the container runtime has")]
    List(#[source] CriError),
    /// A directory could not be made.
    #[error("cannot create {path}", path = path.display())]
    Directory {
        /// The directory.
        path: std::path::PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// What is known of pulled images cannot be read.
    #[error("cannot read the records of pulls")]
    Pulls(#[source] crate::pulls::RecordsError),
}

/// A container or sandbox cannot be configured: `CreateContainerConfigError`. `Display` is what the
/// container's status shows.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A feature that is not implemented.
    #[error("unsupported: {0}")]
    Unsupported(&'static str),
    /// A mount cannot be read-only with all below it (upstream's words).
    #[error("volume \"{volume}\" requested recursive read-only mode, {why}")]
    RecursiveReadOnly {
        /// The volume.
        volume: String,
        /// Why.
        why: &'static str,
    },
    /// The specification says root, and also that it must not be root.
    #[error("container's runAsUser breaks non-root policy ({0})")]
    RunsAsRoot(String),
    /// The image says root.
    #[error("container has runAsNonRoot and image will run as root ({0})")]
    ImageRunsAsRoot(String),
    /// The image's user might be root.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({0}), cannot verify user is non-root ({1})"
    )]
    NamedUser(String, String),
    /// An object that the environment refers to does not exist.
    #[error("{kind} \"{name}\" not found")]
    NotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An object that the environment refers to lacks the key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    MissingKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The object's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A file that the environment is taken from cannot be used.
    #[error("{0}")]
    EnvFile(String),
    /// The API could not be asked.
    #[error("{0}")]
    Object(#[source] ObjectError),
    /// A field of the pod does not exist.
    #[error("{0}")]
    Field(#[source] FieldError),
    /// The pod's full name is to be its host name.
    #[error("failed to construct FQDN from pod hostname and cluster domain, FQDN {0} is too long (64 characters is the max, {n} characters requested)", n = .0.len())]
    LongHostname(String),
    /// An ephemeral container is to see the processes of a container that is not there.
    #[error("unable to find target container {0}")]
    NoTarget(String),
    /// A mount names a volume that the pod does not have.
    #[error("cannot find volume \"{volume}\" to mount into container \"{container}\"")]
    NoVolume {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
    },
    /// A `subPath` cannot be mounted.
    #[error("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\"")]
    SubPath {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
        /// Why.
        #[source]
        source: VolumeError,
    },
    /// The container's devices are not to be had.
    #[error("{0}")]
    Devices(String),
    /// A file that the container needs could not be made.
    #[error("cannot write {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}
