//! Settings below `/proc/sys/net`, of the calling thread's namespace.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes a setting such as `ipv4/ip_forward`, unless it has that value.
///
/// # Errors
/// [`Error::Setting`].
pub fn set(key: &str, value: &str) -> Result<()> {
    let path = path(key);
    if read(&path).as_deref() == Some(value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(|source| Error::Setting {
        path,
        value: value.to_owned(),
        source,
    })
}

/// Like [`set`]; a kernel that lacks the setting has not the feature that it governs.
///
/// # Errors
/// [`Error::Setting`].
pub fn set_if_present(key: &str, value: &str) -> Result<()> {
    if path(key).exists() {
        set(key, value)
    } else {
        Ok(())
    }
}

fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(key)
}

fn read(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}
