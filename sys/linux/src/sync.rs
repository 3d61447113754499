//! Flushing a whole file system, and locks between processes.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FlockOperation, flock};

/// Waits until everything written so far to the file system that `file` is on has reached the disk.
///
/// # Errors
/// As `syncfs(2)`.
pub fn file_system(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// An exclusive lock on an open file, let go of when this is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock; `None` when another has it.
    ///
    /// # Errors
    /// As `flock(2)`.
    pub fn take(file: File) -> io::Result<Option<Self>> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that is about to execute a program has the file open, too, for a moment, and
        // the lock belongs to all who have. What cannot be let go of now goes with the last of them.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_while_others_have_its_file_open() {
        let path = std::env::temp_dir().join(format!("knode-linux-lock-{}", std::process::id()));
        let open = || {
            File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
        };
        let first = open().unwrap();
        // As a child has it between fork and exec.
        let inherited = first.try_clone().unwrap();
        let lock = Lock::take(first).unwrap().unwrap();
        assert!(
            Lock::take(open().unwrap()).unwrap().is_none(),
            "it was taken twice"
        );
        drop(lock);
        assert!(
            Lock::take(open().unwrap()).unwrap().is_some(),
            "it is still taken"
        );
        drop(inherited);
        std::fs::remove_file(&path).unwrap();
    }
}
