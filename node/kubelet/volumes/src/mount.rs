//! Mounting and unmounting, and what is mounted where.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    let table = fs::read_to_string("/proc/self/mountinfo");
    let table = table.map_err(|error| VolumeError::io("read", "/proc/self/mountinfo", error))?;
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    Ok(points(&table, &path))
}

/// Whether something is mounted on `path` itself.
pub(crate) fn is_mount_point(path: &Path) -> Result<bool, VolumeError> {
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(VolumeError::io("resolve", path, error)),
    };
    Ok(below(&real)?.contains(&real))
}

fn points(table: &str, path: &Path) -> Vec<PathBuf> {
    let all = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescaped);
    let mut found: Vec<PathBuf> = all.filter(|point| point.starts_with(path)).collect();
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    found
}

/// Undoes mountinfo's octal escapes of blank, tab, newline and backslash.
fn unescaped(text: &str) -> PathBuf {
    PathBuf::from(
        text.replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_below_a_path_deepest_first() {
        let table = "20 1 0:5 / / rw - ext4 d rw\n21 20 0:6 / /a/b rw - tmpfs t rw\n22 20 0:7 / /a/b/c\\040d rw - tmpfs t rw\n23 20 0:8 / /ab rw - tmpfs t rw\n";
        assert_eq!(
            points(table, Path::new("/a")),
            [PathBuf::from("/a/b/c d"), PathBuf::from("/a/b")]
        );
    }
}
