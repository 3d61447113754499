//! Random access to an archive's members.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

use super::ArchiveError;
use crate::digest::Digest;
use crate::durable::TempPath;
use crate::store::Inner;
use crate::unpack::{decompress, within_root};

/// Largest metadata file that is read into memory.
const METADATA_LIMIT: u64 = 8 << 20;
/// Links followed from a member to its content.
const LINK_LIMIT: usize = 8;

/// An archive and where its members are.
pub(super) struct ArchiveFile {
    path: PathBuf,
    members: BTreeMap<PathBuf, Place>,
    /// The decompressed copy, when the archive is compressed.
    _copy: Option<TempPath>,
}

#[derive(Debug, Clone)]
enum Place {
    Content { offset: u64, size: u64 },
    Link(PathBuf),
}

impl ArchiveFile {
    /// Reads the table of members. A compressed archive is decompressed to a temporary file first.
    pub(super) fn open(inner: &Inner, path: &Path) -> Result<Self, ArchiveError> {
        let file = File::open(path).map_err(ArchiveError::Read)?;
        let mut reader = decompress(file).map_err(ArchiveError::Read)?;
        if reader.is_plain() {
            let members = scan(path)?;
            return Ok(Self {
                path: path.to_owned(),
                members,
                _copy: None,
            });
        }
        let copy = inner.temporary();
        let mut plain = File::create(copy.path()).map_err(ArchiveError::Read)?;
        io::copy(&mut reader, &mut plain).map_err(ArchiveError::Compression)?;
        let members = scan(copy.path())?;
        Ok(Self {
            path: copy.path().to_owned(),
            members,
            _copy: Some(copy),
        })
    }

    /// True when the archive has this member.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(Path::new(name))
    }

    /// Opens a member. Symbolic and hard links lead to what they name.
    pub(super) fn open_member(&self, name: &Path) -> Result<(Take<File>, u64), ArchiveError> {
        let missing = || ArchiveError::Missing(name.display().to_string());
        let mut at = name.to_owned();
        for _ in 0..LINK_LIMIT {
            match self.members.get(&at).ok_or_else(missing)? {
                Place::Link(target) => at.clone_from(target),
                Place::Content { offset, size } => {
                    let mut file = File::open(&self.path).map_err(ArchiveError::Read)?;
                    file.seek(SeekFrom::Start(*offset)).map_err(ArchiveError::Read)?;
                    return Ok((file.take(*size), *size));
                }
            }
        }
        Err(missing())
    }

    /// Reads a metadata file whole.
    pub(super) fn read(&self, name: &Path) -> Result<Vec<u8>, ArchiveError> {
        let (mut content, size) = self.open_member(name)?;
        if size > METADATA_LIMIT {
            return Err(ArchiveError::TooBig(name.display().to_string()));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        content.read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
        Ok(bytes)
    }

    /// Reads a blob of an OCI layout and verifies its digest.
    pub(super) fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, ArchiveError> {
        let name = blob_name(digest);
        let bytes = self.read(&name)?;
        let found = Digest::of(&bytes);
        match found == *digest {
            true => Ok(bytes),
            false => Err(ArchiveError::Digest {
                member: name.display().to_string(),
                found,
            }),
        }
    }
}

/// Where an OCI layout has a blob.
pub(super) fn blob_name(digest: &Digest) -> PathBuf {
    Path::new("blobs/sha256").join(digest.hex())
}

fn scan(path: &Path) -> Result<BTreeMap<PathBuf, Place>, ArchiveError> {
    let file = File::open(path).map_err(ArchiveError::Read)?;
    let length = file.metadata().map_err(ArchiveError::Read)?.len();
    let mut archive = tar::Archive::new(file);
    let mut members = BTreeMap::new();
    for entry in archive.entries_with_seek().map_err(ArchiveError::Tar)? {
        let entry = entry.map_err(ArchiveError::Tar)?;
        let name = within_root(Path::new(""), &entry.path().map_err(ArchiveError::Tar)?);
        let kind = entry.header().entry_type();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        // Contents are padded to whole blocks, so a cut shows even in the padding.
        let end = offset + size.next_multiple_of(512);
        if kind.is_file() && end > length {
            let member = name.display().to_string();
            return Err(ArchiveError::Truncated {
                member,
                needed: end - length,
            });
        }
        let link = entry.link_name().map_err(ArchiveError::Tar)?;
        match (kind, link) {
            (tar::EntryType::Symlink, Some(target)) => {
                let base = name.parent().unwrap_or(Path::new(""));
                members.insert(name.clone(), Place::Link(within_root(base, &target)));
            }
            (tar::EntryType::Link, Some(target)) => {
                members.insert(name, Place::Link(within_root(Path::new(""), &target)));
            }
            _ if kind.is_file() => {
                members.insert(name, Place::Content { offset, size });
            }
            _ => {}
        }
    }
    Ok(members)
}
