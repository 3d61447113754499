//! Layer archives to directory trees in the form overlayfs reads.
//!
//! Whiteouts become character devices 0:0, opaque directories get `trusted.overlay.opaque`. Names never lead out
//! of the tree. Each layer is unpacked on its own; what depends on the layers below (directories that the archive
//! implies without an entry, hard links to files further down) is settled by [`settle`] once those are known.

mod decompress;
mod entry;
#[cfg(test)]
mod fuzz;
mod guard;
mod lower;
mod name;
mod owner;
mod sparse;
#[cfg(test)]
mod tests;
mod within;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub(crate) use decompress::decompress;
pub(crate) use entry::OPAQUE;
pub(crate) use lower::settle;
pub(crate) use within::within_root;

use crate::digest::{Digest, HashingReader};
use crate::image::Usage;

/// Why a layer's archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The archive is no readable tar.
    #[error("reading the archive")]
    Read(#[source] io::Error),
    /// A name that leads out of the tree.
    #[error("entry {0:?} leads out of the image")]
    Escape(String),
    /// An entry whose content ends early.
    #[error("entry {name:?} ends after {found} of {size} bytes")]
    Truncated {
        /// The entry.
        name: String,
        /// Bytes that are there.
        found: u64,
        /// Bytes that its header promises.
        size: u64,
    },
    /// A hard link to a file that is in no layer.
    #[error("hard link {link:?} to {target:?}, which is not in the image")]
    LinkTarget {
        /// The link.
        link: String,
        /// What it should be the same file as.
        target: String,
    },
    /// A directory without an entry of its own that a lower layer has as a symbolic link.
    #[error("unsupported: the layer has files in {0:?}, which is a symbolic link of a lower layer")]
    ThroughLink(String),
    /// A file larger than the file system that it is meant for.
    #[error("entry {name:?} claims {size} bytes, its file system has {capacity}")]
    TooBig {
        /// The entry.
        name: String,
        /// Bytes that its header claims.
        size: u64,
        /// Bytes of the file system, used and free.
        capacity: u64,
    },
    /// More hard links to files of lower layers than any image has.
    #[error("unsupported: more than {0} hard links to files of lower layers")]
    TooManyLinks(usize),
    /// A kind of entry that layers do not have.
    #[error("unsupported: entry {name:?} of type {kind:?}")]
    EntryType {
        /// The entry.
        name: String,
        /// Its type byte.
        kind: char,
    },
    /// The file system refused an entry.
    #[error("entry {name:?}: cannot {operation}")]
    Io {
        /// The entry.
        name: String,
        /// The verb: what was tried.
        operation: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The content is not what the manifest says.
    #[error("{what} is {found}, expected {expected}")]
    Digest {
        /// Which digest: of the blob or of the uncompressed layer.
        what: &'static str,
        /// What was computed.
        found: Digest,
        /// What was promised.
        expected: Digest,
    },
}

/// What came of unpacking one layer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub usage: Usage,
    /// The layer hides everything below it.
    pub opaque: bool,
    /// Directories that entries lie in but that have no entry of their own, parents first. No part of these paths is a
    /// symbolic link of this layer.
    pub implied: BTreeSet<PathBuf>,
    /// Hard links whose target is not in this layer: where the link goes, by a path as above, and to what.
    pub links: BTreeMap<PathBuf, PathBuf>,
}

impl Unpacked {
    /// The tree is not complete without the layers below.
    pub(crate) fn depends_on_lower(&self) -> bool {
        !self.implied.is_empty() || !self.links.is_empty()
    }
}

/// The digests that a layer must have.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// Of the blob as transferred.
    pub blob: Option<Digest>,
    /// Of the uncompressed archive.
    pub diff_id: Digest,
}

/// Unpacks the layer `blob` (gzip, zstd or plain) into the directory `tree`, which it makes, and verifies both
/// digests on the way. Blocks.
pub(crate) fn unpack(blob: impl Read, tree: &Path, expected: &Expected) -> Result<Unpacked, UnpackError> {
    let mut blob = HashingReader::new(blob);
    let result = unpack_archive(&mut blob, tree, &expected.diff_id);
    // A broken blob shows first as broken compression or a broken tar: name the cause.
    if matches!(
        result,
        Ok(_) | Err(UnpackError::Digest { .. } | UnpackError::Read(_) | UnpackError::Truncated { .. })
    ) {
        let (found, _) = blob.finish().map_err(UnpackError::Read)?;
        verify("digest of the blob", found, expected.blob.as_ref())?;
    }
    result
}

fn unpack_archive(blob: impl Read, tree: &Path, diff_id: &Digest) -> Result<Unpacked, UnpackError> {
    let mut content = HashingReader::new(decompress(blob).map_err(UnpackError::Read)?);
    // Some tools write no end-of-archive blocks; zeros are added so that the reader finds one.
    let guarded = guard::Guard::new((&mut content).chain(io::repeat(0).take(2048)));
    let mut archive = tar::Archive::new(guarded);
    let mut unpacker = entry::Unpacker::new(tree)?;
    for entry in archive.entries().map_err(UnpackError::Read)? {
        unpacker.add(&mut entry.map_err(UnpackError::Read)?)?;
    }
    let (found, _) = content.finish().map_err(UnpackError::Read)?;
    verify("diff id of the layer", found, Some(diff_id))?;
    unpacker.finish()
}

fn verify(what: &'static str, found: Digest, expected: Option<&Digest>) -> Result<(), UnpackError> {
    match expected {
        Some(expected) if *expected != found => Err(UnpackError::Digest {
            what,
            found,
            expected: expected.clone(),
        }),
        _ => Ok(()),
    }
}
