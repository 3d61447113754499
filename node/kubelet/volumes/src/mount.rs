//! Mounting and unmounting, and what is mounted where.

use std::fs;
use std::path::{Path, PathBuf};

use knode_linux::overlay;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::VolumeError;

/// Mounts a tmpfs of at most `size` bytes at `target`, never swapped where the kernel can promise that.
pub(crate) fn tmpfs(target: &Path, size: Option<u64>) -> Result<(), VolumeError> {
    let size = size.map(|bytes| format!("size={bytes}"));
    let with_noswap = [size.as_deref(), Some("noswap")]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(",");
    match mount_tmpfs(target, Some(&with_noswap)) {
        // Kernels before 6.4 do not know `noswap`.
        Err(Errno::EINVAL) => mount_tmpfs(target, size.as_deref()),
        other => other,
    }
    .map_err(|errno| VolumeError::io("mount tmpfs on", target, errno))
}

fn mount_tmpfs(target: &Path, options: Option<&str>) -> Result<(), Errno> {
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), options)
}

/// Bind-mounts what `source` is now onto `target`.
pub(crate) fn bind(source: &Path, target: &Path) -> Result<(), VolumeError> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|errno| VolumeError::io("bind mount on", target, errno))
}

/// Takes away every mount on `target`.
pub(crate) fn unmount(target: &Path) -> Result<(), VolumeError> {
    loop {
        match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            // Something still holds it open; it goes when the last user does.
            Err(Errno::EBUSY) => {
                return umount2(target, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)
                    .map_err(|errno| VolumeError::io("unmount", target, errno));
            }
            Err(errno) => return Err(VolumeError::io("unmount", target, errno)),
        }
    }
}

/// Mount points at or below `path`, deepest first.
pub(crate) fn below(path: &Path) -> Result<Vec<PathBuf>, VolumeError> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut found = overlay::mount_points_below(&path)
        .map_err(|error| VolumeError::io("list mounts below", &path, error))?;
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    Ok(found)
}

/// Whether something is mounted on `path` itself.
pub(crate) fn is_mount_point(path: &Path) -> Result<bool, VolumeError> {
    overlay::is_mount_point(path).map_err(|error| VolumeError::io("look at", path, error))
}
