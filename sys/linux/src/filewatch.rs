//! Noticing that files change (inotify), and how full a file system is (statvfs).
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// An inotify instance on a tokio reactor.
#[derive(Debug)]
pub struct FileWatch {
    fd: AsyncFd<OwnedFd>,
}

impl FileWatch {
    /// A new instance that watches nothing yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The system's (limits of instances per user).
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // SAFETY: the reactor's registration owns the descriptor, which nobody else has and which is neither taken
        // out nor exchanged while registered.
        let fd = unsafe { AsyncFd::register(fd) }?;
        Ok(Self { fd })
    }

    /// Watches a directory: writes to its files, files made, moved in or out, and deleted.
    ///
    /// # Errors
    /// The system's, such as absence.
    pub fn add_directory(&self, path: &Path) -> io::Result<()> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE;
        inotify::add_watch(self.fd.get_ref(), path, flags)
            .map(|_| ())
            .map_err(Into::into)
    }

    /// Waits until something has happened since the last call; many changes at once count as one.
    ///
    /// # Errors
    /// The system's.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.fd.readable().await?;
            let any = self.drain()?;
            ready.clear_ready();
            if any {
                return Ok(());
            }
        }
    }

    /// Takes all that has happened off the queue; whether there was anything. A queue that overflowed counts.
    fn drain(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
        let mut any = false;
        loop {
            match reader.next() {
                Ok(event) => any |= !event.events().contains(ReadFlags::IGNORED),
                Err(rustix::io::Errno::AGAIN) => return Ok(any),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystemUsage {
    /// Size in bytes.
    pub capacity: u64,
    /// Bytes that an unprivileged process may still write.
    pub available: u64,
    /// Bytes in use.
    pub used: u64,
    /// Inodes, 0 where the file system has no such limit.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
}

/// Asks the file system that `path` is on.
///
/// # Errors
/// The system's, such as absence.
pub fn file_system_usage(path: &Path) -> io::Result<FileSystemUsage> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(FileSystemUsage {
        capacity: bytes(stat.f_blocks),
        available: bytes(stat.f_bavail),
        used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}
