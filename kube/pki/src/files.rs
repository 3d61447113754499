//! Atomic, durable writing of small files, and the check of who may read a key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Mode of files with secrets.
pub const PRIVATE: u32 = 0o600;
/// Mode of files anyone may read.
pub const PUBLIC: u32 = 0o644;

const TEMPORARY_INFIX: &str = ".knode-tmp-";

/// Writes `data` to `path` with `mode`: either the old or the whole new content is there, even after power loss.
///
/// # Errors
/// [`Error::Write`]; the old file, if any, is untouched and no temporary file stays.
pub fn write_atomic(path: &Path, data: &[u8], mode: u32) -> Result<()> {
    let temporary = temporary_name(path);
    let written = write_synced(&temporary, data, mode)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_parent(path));
    written.map_err(|source| {
        // The error that matters is the first one; a temporary file that was never made cannot be removed.
        let _ = fs::remove_file(&temporary);
        Error::Write {
            path: path.to_owned(),
            source,
        }
    })
}

/// Writes a file that may not be there yet; with `force` it may.
///
/// # Errors
/// [`Error::Exists`]; [`Error::Write`].
pub fn write_new(path: &Path, data: &[u8], mode: u32, force: bool) -> Result<()> {
    if !force && path.symlink_metadata().is_ok() {
        return Err(Error::Exists {
            path: path.to_owned(),
        });
    }
    write_atomic(path, data, mode)
}

/// Removes a file that may be absent.
///
/// # Errors
/// [`Error::Write`].
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Write {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Points the symbolic link `link` at `target` atomically, replacing what stands there.
///
/// # Errors
/// [`Error::Write`].
pub fn symlink_atomic(target: &Path, link: &Path) -> Result<()> {
    let temporary = temporary_name(link);
    let done = std::os::unix::fs::symlink(target, &temporary)
        .and_then(|()| fs::rename(&temporary, link))
        .and_then(|()| sync_parent(link));
    done.map_err(|source| {
        // As above: the first error counts.
        let _ = fs::remove_file(&temporary);
        Error::Write {
            path: link.to_owned(),
            source,
        }
    })
}

/// Makes the directory and its parents; a directory made here has mode 0700.
///
/// # Errors
/// [`Error::Write`].
pub fn create_private_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
        .map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
}

/// Reads a text file.
///
/// # Errors
/// [`Error::Read`].
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

/// Reads a text file that may be absent.
///
/// # Errors
/// [`Error::Read`] for anything but absence.
pub fn read_optional(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads a file with a private key; refuses one that group or others may access.
///
/// # Errors
/// [`Error::Read`], [`Error::WeakPermissions`].
pub fn read_private(path: &Path) -> Result<String> {
    let metadata = fs::metadata(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::WeakPermissions {
            path: path.to_owned(),
            mode,
        });
    }
    read(path)
}

/// Removes temporary files that an interrupted [`write_atomic`] left in `dir`.
///
/// # Errors
/// [`Error::Read`] if the directory cannot be listed, [`Error::Write`] if a file cannot be removed.
pub fn remove_leftovers(dir: &Path) -> Result<()> {
    let entries = fs::read_dir(dir).map_err(|source| Error::Read {
        path: dir.to_owned(),
        source,
    })?;
    for entry in entries {
        let entry = entry.map_err(|source| Error::Read {
            path: dir.to_owned(),
            source,
        })?;
        if entry.file_name().to_string_lossy().contains(TEMPORARY_INFIX) {
            let path = entry.path();
            fs::remove_file(&path).map_err(|source| Error::Write { path, source })?;
        }
    }
    Ok(())
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{TEMPORARY_INFIX}{:016x}", rand::random::<u64>()))
}

fn write_synced(path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    // The umask may have taken bits that were asked for.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(data)?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}
