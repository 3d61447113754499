//! `subPath` mounts: a bind mount of what lies in a volume, which later symbolic links cannot redirect
//! (upstream: `pkg/volume/util/subpath`).

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use knode_linux::openat::RootDir;
use rustix::fs::{Mode, OFlags};

use crate::error::VolumeError;
use crate::mount;
use crate::payload::checked;

/// Binds `relative` of the volume at `volume` to `target` and returns `target`. What does not exist is
/// made a directory.
pub(crate) fn bind(volume: &Path, relative: &str, target: &Path) -> Result<PathBuf, VolumeError> {
    let relative = Path::new(checked(relative.trim_end_matches('/'))?);
    let root = RootDir::open(volume).map_err(|error| VolumeError::io("open", volume, error))?;
    make_directories(&root, volume, relative)?;
    let opened = root.open_with(relative, OFlags::PATH, Mode::empty());
    let opened = opened.map_err(|error| VolumeError::io("open", volume.join(relative), error))?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    prepare_target(&source, target)?;
    if !mount::is_mount_point(target)? {
        mount::bind(&source, target)?;
    }
    Ok(target.to_owned())
}

/// Makes the missing directories of `relative`, each looked up from the volume's root again.
fn make_directories(root: &RootDir, volume: &Path, relative: &Path) -> Result<(), VolumeError> {
    if root.open_with(relative, OFlags::PATH, Mode::empty()).is_ok() {
        return Ok(());
    }
    let mut done = PathBuf::new();
    for part in relative.components() {
        let parent = root
            .open_dir(&done)
            .map_err(|error| VolumeError::io("open", volume.join(&done), error))?;
        done.push(part);
        match rustix::fs::mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(VolumeError::io("create", volume.join(&done), errno)),
        }
    }
    Ok(())
}

/// Makes the mount point: a directory for a directory, an empty file for anything else.
fn prepare_target(source: &Path, target: &Path) -> Result<(), VolumeError> {
    let failed = |error: io::Error| VolumeError::io("create", target, error);
    let is_dir = fs::metadata(source)
        .map_err(|error| VolumeError::io("stat", source, error))?
        .is_dir();
    if is_dir {
        return fs::create_dir_all(target).map_err(failed);
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(target)
        .map(drop)
        .map_err(failed)
}
