//! fsGroup: files of the group, with its permissions (upstream: `pkg/volume/volume_linux.go`).

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use crate::error::VolumeError;

const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
const SEARCH: u32 = 0o110;
const SET_GROUP: u32 = 0o2000;

/// Whether `path` itself is the group's already.
pub(super) fn is_given(path: &Path, group: u32, read_only: bool) -> Result<bool, VolumeError> {
    let metadata = fs::metadata(path).map_err(|error| VolumeError::io("stat", path, error))?;
    let mask = if read_only { READ_ONLY } else { READ_WRITE } | SEARCH | SET_GROUP;
    Ok(metadata.gid() == group && metadata.mode() & mask == mask)
}

/// Gives `path` and all below it to `group`.
pub(super) fn give(path: &Path, group: u32, read_only: bool) -> Result<(), VolumeError> {
    lchown(path, None, Some(group)).map_err(|error| VolumeError::io("chown", path, error))?;
    let metadata = fs::symlink_metadata(path).map_err(|error| VolumeError::io("stat", path, error))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mut mask = if read_only { READ_ONLY } else { READ_WRITE };
    if metadata.is_dir() {
        mask |= SEARCH | SET_GROUP;
    }
    let mode = (metadata.permissions().mode() & 0o7777) | mask;
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| VolumeError::io("chmod", path, error))?;
    if metadata.is_dir() {
        let entries = fs::read_dir(path).map_err(|error| VolumeError::io("read", path, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| VolumeError::io("read", path, error))?;
            give(&entry.path(), group, read_only)?;
        }
    }
    Ok(())
}
