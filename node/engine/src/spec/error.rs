//! What a configuration can have wrong.

/// Why no specification can be made of a configuration.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Neither the configuration nor the image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// A group without a user, which upstream refuses too.
    #[error("user is unspecified but group {0} is: runAsGroup needs runAsUser")]
    GroupWithoutUser(i64),
    /// The user is not in the image.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UnknownUser(String),
    /// The group is not in the image.
    #[error("unable to find group {0}: no matching entries in group file")]
    UnknownGroup(String),
    /// A user or group number out of range.
    #[error("{0} is no user or group number")]
    Number(i64),
    /// A capability that does not exist.
    #[error("unknown capability {0:?}")]
    Capability(String),
    /// Something valid that this engine does not do.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A mount that contradicts itself.
    #[error("mount {path:?}: {problem}")]
    Mount {
        /// Path in the container.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A seccomp profile that cannot be read.
    #[error("seccomp profile {path:?}")]
    Seccomp {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A resource value out of range.
    #[error("{field}: {value} is out of range")]
    Resource {
        /// Field of the CRI message.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// A signal that does not exist.
    #[error("unknown stop signal {0:?}")]
    Signal(String),
    /// CDI devices that no file of this machine describes.
    #[error("unresolvable CDI devices {0}")]
    Cdi(String),
    /// A control-group parent that is none.
    #[error("cgroup_parent {parent:?} {problem}")]
    CgroupParent {
        /// As it was given.
        parent: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A log path that cannot be.
    #[error("log_path {path:?}: {problem}")]
    LogPath {
        /// As it was given.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A text with a NUL in it.
    #[error("{0}: a text has a NUL in it")]
    Nul(&'static str),
    /// An AppArmor profile that cannot be had.
    #[error("AppArmor profile {profile:?}: {problem}")]
    AppArmor {
        /// Its name.
        profile: String,
        /// Why not.
        problem: &'static str,
    },
    /// An SELinux level that is none.
    #[error("SELinux level {0:?} is none: s<0-9>[-s<0-9>][:c<n>[.c<n>][,…]]")]
    SelinuxLevel(String),
    /// User namespace options that cannot be.
    #[error("user namespace: {0}")]
    Users(&'static str),
    /// A key of the unified control-group settings that names no file there.
    #[error("unified setting {0:?} names no file of a control group")]
    Unified(String),
    /// A size of huge pages that is none.
    #[error("huge page size {0:?}")]
    HugePage(String),
    /// The specification's own rules.
    #[error("building the specification")]
    Oci(#[from] oci_spec::OciSpecError),
}
