//! What can be wrong with an archive.

use std::io;

use crate::digest::Digest;
use crate::error::Error;
use crate::pull::ManifestError;
use crate::unpack::UnpackError;

/// Why an archive cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The file cannot be opened or read.
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    /// Its compression is broken or ends early.
    #[error("the compressed data is damaged or ends early")]
    Compression(#[source] io::Error),
    /// It is no tar, or a damaged one.
    #[error("not a readable tar archive")]
    Tar(#[source] io::Error),
    /// It ends in the middle.
    #[error("truncated: {member:?} needs {needed} bytes more than the file has")]
    Truncated {
        /// The member that is cut.
        member: String,
        /// Missing bytes.
        needed: u64,
    },
    /// Neither `index.json` nor `manifest.json` is in it.
    #[error("neither an OCI layout (index.json) nor a docker archive (manifest.json)")]
    NoManifest,
    /// It names no image.
    #[error("there is no image in it")]
    Empty,
    /// A file that its manifest names is not there.
    #[error("{0:?} is missing")]
    Missing(String),
    /// A metadata file of absurd size.
    #[error("{0:?} is larger than 8 MiB")]
    TooBig(String),
    /// A manifest or configuration that cannot be used.
    #[error("{member:?} is invalid")]
    Manifest {
        /// The file in the archive.
        member: String,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// No image for this machine.
    #[error("no image for platform {0}")]
    NoPlatform(String),
    /// A name that is no reference.
    #[error("an image has the name {0:?}")]
    Name(String, #[source] Box<Error>),
    /// A blob whose content is not what its name says.
    #[error("{member:?} is damaged: it has digest {found}")]
    Digest {
        /// The file in the archive.
        member: String,
        /// Of its content.
        found: Digest,
    },
    /// A layer that cannot be unpacked.
    #[error("layer {member:?}")]
    Layer {
        /// The file in the archive.
        member: String,
        /// The entry and what is wrong with it.
        #[source]
        source: UnpackError,
    },
    /// The store refused.
    #[error("cannot store the image")]
    Store(#[source] Box<Error>),
}
