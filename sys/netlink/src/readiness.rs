//! Waiting for any descriptor to become readable.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Tells when a non-blocking descriptor has something to read.
#[derive(Debug)]
pub struct Readiness {
    fd: AsyncFd<OwnedFd>,
}

impl Readiness {
    /// Watches what `source` reads from, through a descriptor of its own. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Those of `dup` and `epoll_ctl`.
    pub fn of(source: &impl AsFd) -> io::Result<Self> {
        let fd = source.as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` stays open and the same until it is dropped, and the `AsyncFd` owns it.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self { fd })
    }

    /// Waits. The caller then reads until nothing is left; what comes meanwhile is told the next time. Cancel safe.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        let mut ready = self.fd.readable().await?;
        ready.clear_ready();
        Ok(())
    }
}
