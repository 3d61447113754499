//! Errors that name the operation and the object.

use std::io;
use std::path::PathBuf;

use nix::libc;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between us and the kernel's network configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object is there already (`EEXIST`).
    #[error("{op} {object}: already exists")]
    AlreadyExists {
        /// What was asked, such as `add route`.
        op: &'static str,
        /// On which object.
        object: String,
    },
    /// The object, or one that it refers to, is not there (`ENODEV`, `ENOENT`, `ESRCH`, `ENXIO`, `EADDRNOTAVAIL`).
    #[error("{op} {object}: not found")]
    NotFound {
        /// What was asked.
        op: &'static str,
        /// On which object.
        object: String,
    },
    /// The kernel has no such feature (`EOPNOTSUPP`, `EAFNOSUPPORT`).
    #[error("{op} {object}: not supported by this kernel")]
    Unsupported {
        /// What was asked.
        op: &'static str,
        /// On which object.
        object: String,
    },
    /// Any other refusal, with the kernel's own words where it gave some.
    #[error("{op} {object}: refused{}", detail.as_deref().map(|d| format!(" ({d})")).unwrap_or_default())]
    Refused {
        /// What was asked.
        op: &'static str,
        /// On which object.
        object: String,
        /// The kernel's extended message.
        detail: Option<String>,
        /// The error number.
        #[source]
        source: io::Error,
    },
    /// The netlink socket failed.
    #[error("netlink socket: {op}")]
    Socket {
        /// Which call.
        op: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A setting of the namespace cannot be written.
    #[error("set {} to {value}", path.display())]
    Setting {
        /// Its file.
        path: PathBuf,
        /// The wanted value.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A network namespace cannot be opened or entered.
    #[error("network namespace {}", path.display())]
    Netns {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Sorts a refusal by its error number.
    pub(crate) fn refused(op: &'static str, object: &str, errno: i32, detail: Option<String>) -> Self {
        let object = object.to_owned();
        match errno {
            libc::EEXIST => Self::AlreadyExists { op, object },
            libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::ENXIO | libc::EADDRNOTAVAIL => {
                Self::NotFound { op, object }
            }
            libc::EOPNOTSUPP | libc::EAFNOSUPPORT => Self::Unsupported { op, object },
            _ => Self::Refused {
                op,
                object,
                detail,
                source: io::Error::from_raw_os_error(errno),
            },
        }
    }

    /// The object was not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// The object was there already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }
}

/// Makes changes idempotent: what is already so is no error.
pub trait Tolerate {
    /// Success also when the object existed before.
    fn or_exists(self) -> Result<()>;
    /// Success also when the object is already gone.
    fn or_gone(self) -> Result<()>;
}

impl Tolerate for Result<()> {
    fn or_exists(self) -> Result<()> {
        match self {
            Err(e) if e.is_already_exists() => Ok(()),
            other => other,
        }
    }

    fn or_gone(self) -> Result<()> {
        match self {
            Err(e) if e.is_not_found() => Ok(()),
            other => other,
        }
    }
}
