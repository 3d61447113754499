//! Network namespaces as values.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, Result};

/// An open network namespace. Cloning shares the descriptor; the namespace lives at least as long.
#[derive(Debug, Clone)]
pub struct Netns {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

impl Netns {
    /// Opens the namespace that `path` (a bind mount, or `/proc/<pid>/ns/net`) names.
    ///
    /// # Errors
    /// [`Error::Netns`] when it cannot be opened; its source's kind is `NotFound` when it is gone.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        match File::open(&path) {
            Ok(file) => Ok(Self {
                fd: Arc::new(OwnedFd::from(file)),
                path,
            }),
            Err(source) => Err(Error::Netns { path, source }),
        }
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Netns`] without a mounted `/proc`.
    pub fn current() -> Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// A new, empty namespace that ends with its last descriptor, socket or thread. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// [`Error::Netns`] without the right.
    pub fn anonymous() -> Result<Self> {
        let fail = |source| Error::Netns {
            path: PathBuf::from("(new)"),
            source,
        };
        let made = std::thread::Builder::new()
            .name("netns".into())
            .stack_size(256 << 10)
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                File::open("/proc/thread-self/ns/net")
            });
        let file = match made.map_err(fail)?.join() {
            Ok(result) => result.map_err(fail)?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok(Self {
            fd: Arc::new(OwnedFd::from(file)),
            path: PathBuf::from("(new)"),
        })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `f` inside the namespace, on a thread that ends with it, and waits. Sockets that `f` opens belong to
    /// the namespace wherever they are used later; `/proc/sys/net` is the namespace's own.
    ///
    /// # Errors
    /// [`Error::Netns`] when the thread cannot start or enter the namespace.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let fail = |source| Error::Netns {
            path: self.path.clone(),
            source,
        };
        let joined = std::thread::scope(|scope| {
            let worker = std::thread::Builder::new()
                .name("netns".into())
                .stack_size(256 << 10)
                .spawn_scoped(scope, || -> io::Result<T> {
                    setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET)?;
                    Ok(f())
                })?;
            match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        });
        joined.map_err(fail)
    }
}

impl AsRawFd for Netns {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
