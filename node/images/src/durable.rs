//! Files that are whole or absent after a crash.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, IoContext, Result};

/// Writes `bytes` to `path` so that a crash leaves the old content or the new: temporary file, fsync, rename,
/// fsync of the directory.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_unsynced_with(path, bytes, |file| file.sync_all())?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// Writes `bytes` to `path` in one rename, without waiting for the disk: for records that a power cut may take.
pub(crate) fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<()> {
    write_unsynced_with(path, bytes, |_| Ok(()))
}

fn write_unsynced_with(
    path: &Path,
    bytes: &[u8],
    finish: impl Fn(&File) -> std::io::Result<()>,
) -> Result<()> {
    let temporary = TempPath::new(path.with_extension("tmp"));
    let at = temporary.path();
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(at)
        .at("create", at)?;
    file.write_all(bytes).at("write", at)?;
    finish(&file).at("sync", at)?;
    fs::rename(at, path).at("rename to", path)?;
    temporary.keep();
    Ok(())
}

/// [`write`] of a value as JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write(path, &to_json(path, value)?)
}

/// A value as JSON bytes; `path` is for the error.
pub(crate) fn to_json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| Error::Record {
        path: path.to_owned(),
        source,
    })
}

/// Reads a JSON record.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).at("read", path)?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Record {
        path: path.to_owned(),
        source,
    })
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).at("sync", path)
}

/// Makes everything written to the file system of `path` durable.
pub(crate) fn sync_file_system(path: &Path) -> Result<()> {
    let dir = File::open(path).at("open", path)?;
    knode_linux::sync::file_system(&dir).at("sync the file system of", path)
}

/// Removes a file or a tree; what is not there is no error.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}

/// The names in a directory.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).at("list", path)? {
        let entry = entry.at("list", path)?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// A path that is removed, with all below it, unless it is moved away or kept.
#[derive(Debug)]
pub(crate) struct TempPath(PathBuf);

impl TempPath {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves what is there.
    pub(crate) fn keep(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        if self.0.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = remove(&self.0) {
            tracing::warn!(
                error = error.chain(),
                "a temporary file stays until the next start"
            );
        }
    }
}
