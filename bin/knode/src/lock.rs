//! One daemon a data directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Why a data directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("open the lock file {path}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error(
        "the data directory {dir} is in use by knode process {pid}; end it with `knode down --data-dir {dir}`"
    )]
    Held { dir: PathBuf, pid: String },
    #[error("lock {path}")]
    Lock { path: PathBuf, source: std::io::Error },
    #[error("write the process id to {path}")]
    Write { path: PathBuf, source: std::io::Error },
}

/// The lock, held until dropped or until the process ends in whatever way.
#[derive(Debug)]
pub struct DataDirLock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

impl DataDirLock {
    /// Keeps the lock until the process is gone: who waits for it then finds nothing of us still open.
    pub fn hold_to_the_end(self) {
        std::mem::forget(self);
    }
}

fn open(path: &Path) -> Result<File, LockError> {
    let open = || {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
    };
    open().map_err(|source| LockError::Open {
        path: path.to_owned(),
        source,
    })
}

/// Takes the lock of the data directory that `path` lies in and writes our process id into it.
pub fn take(path: &Path) -> Result<DataDirLock, LockError> {
    let file = open(path)?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, errno)| {
        if errno != nix::errno::Errno::EWOULDBLOCK {
            return LockError::Lock {
                path: path.to_owned(),
                source: errno.into(),
            };
        }
        let mut pid = String::new();
        // An unreadable process id leaves the message without one; the directory is held all the same.
        let _ = file.read_to_string(&mut pid);
        LockError::Held {
            dir: path.parent().unwrap_or(path).to_owned(),
            pid: pid.trim().to_owned(),
        }
    })?;
    let mut write = || {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    write().map_err(|source| LockError::Write {
        path: path.to_owned(),
        source,
    })?;
    Ok(DataDirLock(lock))
}

/// The process that holds the lock at `path` now, if any.
pub fn holder(path: &Path) -> Option<i32> {
    let mut file = File::open(path).ok()?;
    let mut pid = String::new();
    file.read_to_string(&mut pid).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_free) => None,
        Err(_) => pid.trim().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_holds_the_directory() {
        let dir = std::env::temp_dir().join(format!("knode-lock-{}", std::process::id()));
        let path = dir.join("knode.lock");
        let held = take(&path).unwrap();
        assert_eq!(holder(&path), Some(std::process::id() as i32));
        let error = take(&path).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(held);
        assert_eq!(holder(&path), None);
        drop(take(&path).unwrap());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
