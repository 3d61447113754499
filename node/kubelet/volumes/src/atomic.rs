//! Files that change all at once (upstream: `pkg/volume/util/atomic_writer.go`).
//!
//! The content lies in a directory named by time; `..data` is a symbolic link to it that is replaced by
//! one rename, and each file at the volume's root is a link through `..data`.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::error::VolumeError;
use crate::payload::Payload;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes `payload` the content of the volume at `target`; readers see either all of the old or all of the
/// new. `own` is called on the new directory before it becomes visible. Returns whether anything changed.
pub(crate) fn write(
    target: &Path,
    payload: &Payload,
    now: Timestamp,
    own: impl FnOnce(&Path) -> Result<(), VolumeError>,
) -> Result<bool, VolumeError> {
    let old = current(target)?;
    if let Some(old) = &old
        && holds(old, payload)?
    {
        return Ok(false);
    }
    let fresh = fresh_directory(target, now)?;
    let name = fresh.file_name().map(PathBuf::from).unwrap_or_default();
    let made = fill(&fresh, payload)
        .and_then(|()| own(&fresh))
        .and_then(|()| switch(target, &name));
    if let Err(error) = made {
        // The half-made directory is not visible; the error that counts is the first.
        let _ = fs::remove_dir_all(&fresh);
        return Err(error);
    }
    link_roots(target, payload)?;
    unlink_stale(target, payload)?;
    if let Some(old) = old {
        fs::remove_dir_all(&old).map_err(|error| VolumeError::io("remove", &old, error))?;
    }
    Ok(true)
}

/// The directory that `..data` points to.
fn current(target: &Path) -> Result<Option<PathBuf>, VolumeError> {
    match fs::read_link(target.join(DATA)) {
        Ok(name) => Ok(Some(target.join(name))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(VolumeError::io("read link", target.join(DATA), error)),
    }
}

/// Whether `directory` holds exactly the payload.
fn holds(directory: &Path, payload: &Payload) -> Result<bool, VolumeError> {
    let mut present = BTreeSet::new();
    if let Err(error) = files(directory, Path::new(""), &mut present) {
        return match error.kind() {
            io::ErrorKind::NotFound => Ok(false),
            _ => Err(VolumeError::io("read", directory, error)),
        };
    }
    if !present
        .iter()
        .map(String::as_str)
        .eq(payload.keys().map(String::as_str))
    {
        return Ok(false);
    }
    for (path, file) in payload {
        let full = directory.join(path);
        let same = fs::read(&full).map_err(|error| VolumeError::io("read", &full, error))? == file.data;
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn files(base: &Path, below: &Path, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(base.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            files(base, &path, found)?;
        } else {
            found.insert(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// `..2026_11_22_14_49_26.272142411`, 0755.
fn fresh_directory(target: &Path, now: Timestamp) -> Result<PathBuf, VolumeError> {
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S");
    let mut suffix = u64::from(now.subsec_nanosecond().unsigned_abs());
    loop {
        let path = target.join(format!("{stamp}.{suffix}"));
        match fs::create_dir(&path) {
            Ok(()) => {
                return fs::set_permissions(&path, Permissions::from_mode(0o755))
                    .map(|()| path.clone())
                    .map_err(|error| VolumeError::io("chmod", path, error));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => suffix += 1,
            Err(error) => return Err(VolumeError::io("create", path, error)),
        }
    }
}

fn fill(directory: &Path, payload: &Payload) -> Result<(), VolumeError> {
    for (path, file) in payload {
        let full = directory.join(path);
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent).map_err(|error| VolumeError::io("create", parent, error))?;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(file.mode);
        let written = options.open(&full).and_then(|mut open| {
            open.write_all(&file.data)?;
            if file.owner.is_some() {
                fchown(&open, file.owner, None)?;
            }
            open.set_permissions(Permissions::from_mode(file.mode))
        });
        written.map_err(|error| VolumeError::io("write", &full, error))?;
    }
    Ok(())
}

fn switch(target: &Path, name: &Path) -> Result<(), VolumeError> {
    let (new, data) = (target.join(DATA_NEW), target.join(DATA));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(VolumeError::io("remove", new, error));
        }
        _ => {}
    }
    symlink(name, &new).map_err(|error| VolumeError::io("link", &new, error))?;
    fs::rename(&new, &data).map_err(|error| VolumeError::io("rename", data, error))
}

/// First components of the payload's paths, which are what a reader sees.
fn roots(payload: &Payload) -> BTreeSet<&str> {
    payload
        .keys()
        .map(|path| path.split('/').next().unwrap_or(path))
        .collect()
}

fn link_roots(target: &Path, payload: &Payload) -> Result<(), VolumeError> {
    for root in roots(payload) {
        let link = target.join(root);
        match symlink(Path::new(DATA).join(root), &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(VolumeError::io("link", link, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes links to files that are no longer there.
fn unlink_stale(target: &Path, payload: &Payload) -> Result<(), VolumeError> {
    let wanted = roots(payload);
    let entries = fs::read_dir(target).map_err(|error| VolumeError::io("read", target, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| VolumeError::io("read", target, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if is_link && !name.starts_with("..") && !wanted.contains(name.as_str()) {
            fs::remove_file(entry.path()).map_err(|error| VolumeError::io("remove", entry.path(), error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
