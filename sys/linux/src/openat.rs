//! A directory that no name can leave: resolution by `openat2(2)`.

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A directory treated as `/` for every name resolved below it.
///
/// Symbolic links met on the way, absolute ones too, are resolved inside the directory
/// (`RESOLVE_IN_ROOT`), and the magic links of `/proc` are refused.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
}

impl RootDir {
    /// Opens `path` as a root.
    ///
    /// # Errors
    /// Whatever `open(2)` answers; `ENOTDIR` when it is no directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Opens the directory `relative` below the root, for use as the base of `*at` calls.
    ///
    /// # Errors
    /// `ENOENT` and `ENOTDIR` as usual, `EXDEV` and `ELOOP` for what cannot be resolved inside.
    pub fn open_dir(&self, relative: &Path) -> io::Result<OwnedFd> {
        self.open_with(relative, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens the file `relative` for reading, without waiting for the other end of a pipe.
    ///
    /// # Errors
    /// As [`RootDir::open_dir`].
    pub fn open_file(&self, relative: &Path) -> io::Result<std::fs::File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        self.open_with(relative, flags, Mode::empty()).map(Into::into)
    }

    /// Opens `relative` with any flags; `O_CLOEXEC` is added.
    ///
    /// # Errors
    /// As [`RootDir::open_dir`], and those of the flags.
    pub fn open_with(&self, relative: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let name = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        loop {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match openat2(&self.fd, name, flags | OFlags::CLOEXEC, mode, resolve) {
                // The kernel gives up when a rename elsewhere races with `..`.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
