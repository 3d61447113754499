use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes a setting of the calling thread's namespace below `/proc/sys/net`, unless it has that value.
pub(crate) fn set(key: &str, value: &str) -> Result<()> {
    let path = path(key);
    if read(&path).as_deref() == Some(value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(|source| Error::Sysctl {
        path,
        value: value.to_owned(),
        source,
    })
}

/// Like [`set`]; a kernel that lacks the setting has not the feature that it governs.
pub(crate) fn set_if_present(key: &str, value: &str) -> Result<()> {
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
