//! One process at a time: a lock beside the store's file, and who holds it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use knode_linux::sync::Lock;

use crate::error::{Error, Result};

/// Takes the lock that goes with the store at `path`. It is held until it is dropped, whatever children that are about
/// to execute a program have open.
pub(crate) fn acquire(path: &Path) -> Result<Lock> {
    let taken = open(path).and_then(Lock::take);
    let taken = taken.map_err(|source| Error::Open {
        path: path.to_owned(),
        source: source.into(),
    })?;
    taken.ok_or_else(|| Error::InUse {
        path: path.to_owned(),
        holder: holder_of(&lock_path(path)),
    })
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(lock_path(path))
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// The process that holds a lock on the file, as `name (pid n)`.
pub(crate) fn holder_of(path: &Path) -> String {
    let inode = std::fs::metadata(path).map(|m| m.ino()).ok();
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    match inode.and_then(|inode| find_holder(&locks, inode)) {
        Some(pid) => describe(pid),
        None => "another process".to_owned(),
    }
}

/// The first process in the text of `/proc/locks` (proc(5)) that holds a lock on the inode.
fn find_holder(locks: &str, inode: u64) -> Option<u32> {
    locks
        .lines()
        .filter(|line| !line.contains("->"))
        .find_map(|line| {
            let mut words = line.split_whitespace().skip(4);
            let pid = words.next()?.parse().ok()?;
            let file = words.next()?.rsplit(':').next()?.parse::<u64>().ok()?;
            (file == inode).then_some(pid)
        })
}

fn describe(pid: u32) -> String {
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("{} (pid {pid})", name.trim()),
        Err(_) => format!("pid {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_store_can_be_opened_while_a_child_has_the_file_of_its_lock() {
        let path = std::env::temp_dir().join(format!("knode-store-lock-{}", std::process::id()));
        let file = open(&path).unwrap();
        // As a child has it until it executes its program.
        let inherited = file.try_clone().unwrap();
        let lock = Lock::take(file).unwrap().unwrap();
        assert!(matches!(acquire(&path), Err(Error::InUse { .. })));
        drop(lock);
        assert!(acquire(&path).is_ok(), "it is still held");
        drop(inherited);
        std::fs::remove_file(lock_path(&path)).unwrap();
    }

    #[test]
    fn the_holder_is_found_by_inode_and_waiters_are_not_holders() {
        let locks = "1: -> FLOCK  ADVISORY  WRITE 7 08:01:42 0 EOF\n\
                     1: FLOCK  ADVISORY  WRITE 12 08:01:42 0 EOF\n\
                     2: POSIX  ADVISORY  READ 13 08:01:43 128 128\n";
        assert_eq!(find_holder(locks, 42), Some(12));
        assert_eq!(find_holder(locks, 43), Some(13));
        assert_eq!(find_holder(locks, 44), None);
    }
}
