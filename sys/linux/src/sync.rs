//! Flushing a whole file system.

use std::io;
use std::os::fd::AsFd;

/// Waits until everything written so far to the file system that `file` is on has reached the disk.
///
/// # Errors
/// As `syncfs(2)`.
pub fn file_system(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// Takes an exclusive lock on an open file, kept until the file is closed; false when another process has it.
///
/// # Errors
/// As `flock(2)`.
pub fn try_lock(file: impl AsFd) -> io::Result<bool> {
    match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
