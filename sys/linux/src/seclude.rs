//! Directories whose mounts a process can leave behind in one step.
//!
//! Every mount on a machine is copied into each new mount namespace, and whoever reads the table of mounts there reads
//! them all: with hundreds of pods that costs more than starting a program. A secluded directory is bound onto itself
//! twice, the lower one private: taking off the upper one in a namespace of one's own takes everything below it away
//! at once and reaches nobody else. Below it nothing is propagated either.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_bind, mount_change, move_mount,
    open_tree, unmount,
};

use crate::overlay::mount_points_below;

/// A secluded directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secluded {
    directory: PathBuf,
    /// The upper mount's id in this mount namespace.
    mount: u64,
}

/// What somebody who leaves keeps of a secluded directory.
#[derive(Debug, Clone, Copy)]
pub struct Keep<'a> {
    /// The directory.
    pub directory: &'a Path,
    /// Its upper mount's id, from [`Secluded::mount`]: whoever finds another there leaves nothing.
    pub mount: u64,
    /// An entry of the directory that is kept, with what is mounted in it. It may be missing.
    pub name: &'a str,
}

impl Secluded {
    /// Makes `directory`, which must exist, a secluded one if it is none yet. `None` where something has been mounted
    /// below it before: it would be there three times.
    ///
    /// # Errors
    /// Those of the mounts and of reading `/proc/self/mountinfo`. What an error has left is completed by the next call.
    pub fn establish(directory: &Path) -> io::Result<Option<Self>> {
        let points = mount_points_below(directory)?;
        let own = points.iter().filter(|point| *point == directory).count();
        if own < 2 {
            if points.len() > own {
                return Ok(None);
            }
            if own == 0 {
                mount_bind(directory, directory)?;
            }
            mount_change(directory, MountPropagationFlags::PRIVATE)?;
            mount_bind(directory, directory)?;
        }
        Ok(Some(Self {
            directory: directory.to_owned(),
            mount: mount_id(directory)?,
        }))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The upper mount's id in the mount namespace that it was established in.
    pub fn mount(&self) -> u64 {
        self.mount
    }
}

/// Makes `directory` an ordinary one again, if nothing is mounted below it any more.
///
/// # Errors
/// Those of `umount2(2)` and of reading `/proc/self/mountinfo`.
pub fn reveal(directory: &Path) -> io::Result<()> {
    let points = mount_points_below(directory)?;
    if points.iter().any(|point| point != directory) {
        return Ok(());
    }
    for _ in points {
        unmount(directory, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

/// Gives the caller, which must have one thread only, a mount namespace of its own without what is mounted below
/// these directories, but for what it keeps. Other mounts stay as they are, and their propagation with them.
///
/// # Errors
/// Those of the system calls; the caller's namespace is then of no use.
pub fn leave(kept: &[Keep<'_>]) -> io::Result<()> {
    let known = |keep: &&Keep<'_>| mount_id(keep.directory).is_ok_and(|mount| mount == keep.mount);
    let mut taken = Vec::new();
    for keep in kept.iter().filter(known) {
        taken.push((keep, copy(&keep.directory.join(keep.name))?));
    }
    if taken.is_empty() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    for (keep, copy) in &taken {
        unmount(keep.directory, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        if let Some(copy) = copy {
            let place = keep.directory.join(keep.name);
            move_mount(copy, c"", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        }
    }
    Ok(())
}

/// A copy of the mounts at and below `path`, mounted nowhere yet; `None` without such a path.
fn copy(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    match open_tree(CWD, path, flags) {
        Ok(copy) => Ok(Some(copy)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn mount_id(path: &Path) -> io::Result<u64> {
    let seen = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID)?;
    match seen.stx_mask & StatxFlags::MNT_ID.bits() {
        0 => Err(io::Error::from(io::ErrorKind::Unsupported)),
        _ => Ok(seen.stx_mnt_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("knode-linux-{name}-{}", std::process::id()));
        for pod in ["one", "other", "third"] {
            fs::create_dir_all(path.join(pod)).unwrap();
        }
        path
    }

    fn points(path: &Path) -> Vec<String> {
        let all = mount_points_below(path).unwrap();
        let below = all.iter().map(|point| point.strip_prefix(path).unwrap());
        let mut names: Vec<String> = below.map(|point| point.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Runs `inside` in a copy of this process, and tells whether it held.
    fn holds_in_a_copy(inside: impl FnOnce() -> bool) -> bool {
        let child = crate::process::fork(|| if inside() { 0 } else { 1 }).unwrap();
        waitpid(Pid::from_raw(child), None).unwrap() == WaitStatus::Exited(Pid::from_raw(child), 0)
    }

    /// Needs root.
    #[test]
    fn who_leaves_keeps_its_own_mounts_and_takes_none_from_others() {
        let path = directory("secluded");
        let secluded = Secluded::establish(&path).expect("mounting needs root").unwrap();
        for pod in ["one", "other"] {
            mount_bind(path.join("third"), path.join(pod)).unwrap();
        }
        assert_eq!(
            Secluded::establish(&path).unwrap(),
            Some(secluded.clone()),
            "twice is once"
        );
        let left = |mount, name| {
            let keep = Keep {
                directory: &path,
                mount,
                name,
            };
            leave(&[keep]).is_ok()
        };
        assert!(holds_in_a_copy(
            || left(secluded.mount(), "one") && points(&path) == ["", "one"]
        ));
        assert!(holds_in_a_copy(
            || left(secluded.mount(), "missing") && points(&path) == [""]
        ));
        let all = ["", "", "one", "other"];
        assert!(holds_in_a_copy(
            || left(secluded.mount() + 1, "one") && points(&path) == all
        ));
        assert_eq!(points(&path), all, "nobody else has lost anything");
        reveal(&path).unwrap();
        assert_eq!(points(&path), all, "what is in use stays secluded");
        for pod in ["one", "other"] {
            unmount(path.join(pod), UnmountFlags::DETACH).unwrap();
        }
        reveal(&path).unwrap();
        assert!(points(&path).is_empty());
        fs::remove_dir_all(&path).unwrap();
    }

    /// Needs root.
    #[test]
    fn a_directory_behind_a_link_is_secluded_once() {
        let base = directory("linked");
        let (path, link) = (base.join("one"), base.with_extension("link"));
        std::os::unix::fs::symlink(&base, &link).unwrap();
        let linked = link.join("one");
        let first = Secluded::establish(&linked).expect("mounting needs root");
        assert_eq!(Secluded::establish(&linked).unwrap(), first);
        assert_eq!(points(&path), ["", ""]);
        reveal(&linked).unwrap();
        assert!(points(&path).is_empty());
        fs::remove_file(&link).unwrap();
        fs::remove_dir_all(&base).unwrap();
    }

    /// Needs root.
    #[test]
    fn a_directory_with_older_mounts_stays_as_it_is() {
        let path = directory("unsecluded");
        mount_bind(path.join("one"), path.join("other")).expect("mounting needs root");
        assert_eq!(Secluded::establish(&path).unwrap(), None);
        assert_eq!(points(&path), ["other"]);
        unmount(path.join("other"), UnmountFlags::DETACH).unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}
