//! What can go wrong with images, one variant an operation.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::ArchiveError;
use crate::pull::PullError;
use crate::reference::ReferenceError;
use crate::unpack::UnpackError;

/// Result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Failure of an operation on the image store. [`Error::chain`] is the text for people and for CRI answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image reference that has no valid form.
    #[error("couldn't parse image name {reference:?}")]
    Reference {
        /// The reference as it was given.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// A pull that did not succeed; nothing of it is left.
    #[error("failed to pull and unpack image {image:?}")]
    Pull {
        /// The normalised reference.
        image: String,
        /// The step that failed.
        #[source]
        source: Box<PullError>,
    },
    /// An archive that could not be imported; nothing of it is left.
    #[error("failed to import image archive {}", path.display())]
    Import {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<ArchiveError>,
    },
    /// A layer that could not be unpacked.
    #[error("failed to extract layer {digest}")]
    Unpack {
        /// The layer's digest as the manifest names it.
        digest: String,
        /// The entry and what is wrong with it.
        #[source]
        source: UnpackError,
    },
    /// No image answers to this reference.
    #[error("image {0:?} not found")]
    ImageNotFound(String),
    /// No snapshot has this key.
    #[error("snapshot {0:?} not found")]
    SnapshotNotFound(String),
    /// A snapshot key is in use.
    #[error("snapshot {0:?} already exists")]
    SnapshotExists(String),
    /// A snapshot key that is no plain file name.
    #[error("snapshot key {0:?} is not a plain file name")]
    SnapshotKey(String),
    /// Another process has the store open.
    #[error("image store {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// A store written by a version that this one cannot read.
    #[error("image store {} has format {found:?}, this version reads {expected:?}", path.display())]
    Format {
        /// The store's directory.
        path: PathBuf,
        /// What its format file says.
        found: String,
        /// What this version reads.
        expected: &'static str,
    },
    /// A record on disk that cannot be read.
    #[error("damaged record {}", path.display())]
    Record {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Something that images may ask for and that is not implemented.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// A system call on a path.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The verb: what was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A background task ended without a result.
    #[error("the {0} task ended early")]
    TaskLost(&'static str),
    /// The failure of an operation that several callers waited for.
    #[error(transparent)]
    Shared(Arc<Error>),
}

/// The whole chain of an error in one line, outermost first, joined by `": "`.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

impl Error {
    /// The whole chain in one line, outermost first, joined by `": "`.
    pub fn chain(&self) -> String {
        chain(self)
    }

    /// True for a pull of what its registry does not have, or not for this machine.
    pub fn is_absent(&self) -> bool {
        match self {
            Self::Pull { source, .. } => {
                matches!(**source, PullError::Absent(_) | PullError::NoPlatform(_))
            }
            Self::Shared(inner) => inner.is_absent(),
            _ => false,
        }
    }

    /// True when the image or snapshot asked for is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::ImageNotFound(_) | Self::SnapshotNotFound(_) => true,
            Self::Shared(inner) => inner.is_not_found(),
            _ => false,
        }
    }
}

/// Turns an [`io::Error`] into [`Error::Io`] with its operation and path.
pub(crate) trait IoContext<T> {
    fn at(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn at(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| Error::Io {
            operation,
            path: path.as_ref().to_path_buf(),
            source: error.into(),
        })
    }
}
