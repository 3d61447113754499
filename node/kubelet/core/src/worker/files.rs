//! Files and directories that pods need beside their volumes.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::pod::PodExt;

/// A directory for root and its group.
pub(super) fn directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Writes a file only if its content differs, so that a mounted one stays the same file.
pub(super) fn write_if_new(path: &Path, text: &str) -> io::Result<()> {
    match fs::read_to_string(path) {
        Ok(old) if old == text => return Ok(()),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// An empty file that everyone may write, under a name of its own.
pub(super) fn message_file(directory: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    loop {
        let path = directory.join(format!("{:08x}", rand::random::<u32>()));
        match fs::File::create_new(&path) {
            Ok(file) => {
                file.set_permissions(fs::Permissions::from_mode(0o666))?;
                return Ok(path);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// `<pod>_<namespace>_<container>-<id>.log`, as log collectors expect it.
pub(super) fn log_link(links: &Path, pod: &Pod, container: &str, id: &str) -> PathBuf {
    // Upstream cuts names so that the whole fits into a file name.
    let mut prefix = format!("{}_{}_{container}", pod.pod_name(), pod.ns());
    prefix.truncate(251 - id.len().min(200));
    links.join(format!("{prefix}-{id}.log"))
}

/// Links a container's log.
pub(super) fn link_log(links: &Path, pod: &Pod, container: &str, id: &str, log: &Path) -> io::Result<()> {
    let link = log_link(links, pod, container, id);
    match symlink(log, &link) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(links)?;
            symlink(log, link)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Removes a file that may be gone.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
