//! Extended attributes of a name below an open directory, links not followed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};

/// The name under which `/proc` shows `name` in the directory `dir`; an empty `name` is the directory itself.
fn proc_path(dir: impl AsFd, name: &Path) -> PathBuf {
    let base = PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()));
    if name.as_os_str().is_empty() {
        base.join(".")
    } else {
        base.join(name)
    }
}

/// Sets one attribute on `name` in `dir`. `name` must be a single component.
///
/// # Errors
/// As `lsetxattr(2)`.
pub fn set_at(dir: impl AsFd, name: &Path, key: &OsStr, value: &[u8]) -> io::Result<()> {
    lsetxattr(proc_path(dir, name), key, value, XattrFlags::empty())?;
    Ok(())
}

/// Sets one attribute of the file at `path`; a link is set itself.
///
/// # Errors
/// As `lsetxattr(2)`.
pub fn set(path: &Path, key: &OsStr, value: &[u8]) -> io::Result<()> {
    lsetxattr(path, key, value, XattrFlags::empty())?;
    Ok(())
}

/// One attribute of the file at `path`, `None` when it has none of that name.
///
/// # Errors
/// As `lgetxattr(2)`.
pub fn get(path: &Path, key: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 65_536];
    match lgetxattr(path, key, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Every attribute of the file at `path`: name and value.
///
/// # Errors
/// As `llistxattr(2)` and `lgetxattr(2)`.
pub fn all(path: &Path) -> io::Result<Vec<(std::ffi::OsString, Vec<u8>)>> {
    let mut names = vec![0; 65_536];
    let length = match llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let mut found = Vec::new();
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = OsStr::from_bytes(name);
        if let Some(value) = get(path, name)? {
            found.push((name.to_owned(), value));
        }
    }
    Ok(found)
}
