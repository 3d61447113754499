use std::io;

use tokio::io::unix::AsyncFd;

use crate::error::Error;
use crate::monitor::{Monitor, Notice};

/// A [`Monitor`] to be awaited.
#[derive(Debug)]
pub struct Watcher {
    monitor: AsyncFd<Monitor>,
}

impl Watcher {
    /// Opens a monitor as [`Monitor::open`] does and registers it with the current tokio runtime.
    pub fn open(ignore: Option<u32>) -> Result<Self, Error> {
        let monitor = Monitor::open(ignore)?;
        // SAFETY: the monitor owns its descriptor, always names the same one and keeps it open until it is dropped.
        let registered = unsafe { AsyncFd::register(monitor) };
        let monitor = registered.map_err(|error| Error::Open(error.into_parts().1))?;
        Ok(Self { monitor })
    }

    /// Waits for notices; at least one is returned. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Vec<Notice>, Error> {
        loop {
            let ready = self.monitor.readable_mut().await;
            let mut ready = ready.map_err(receive_error)?;
            let notices = ready.get_inner_mut().drain()?;
            ready.clear_ready();
            if !notices.is_empty() {
                return Ok(notices);
            }
        }
    }
}

fn receive_error(source: io::Error) -> Error {
    Error::Receive {
        what: "notices of ruleset changes".to_owned(),
        source,
    }
}
