//! Rotation of container logs (upstream: `pkg/kubelet/logs/container_log_manager.go`).

mod plan;
mod rotate;

use std::time::Duration;

pub use plan::{Tidying, rotated_name, tidy};
pub(crate) use rotate::{remove_all, run};

/// When a container's log is rotated and what is kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRotation {
    /// Size in bytes from which on a log is rotated (upstream: `containerLogMaxSize`).
    pub max_size: u64,
    /// Files of one container, the one that is written to among them; at least 2 (upstream:
    /// `containerLogMaxFiles`).
    pub max_files: usize,
    /// Pause between two looks (upstream: `containerLogMonitorInterval`).
    pub interval: Duration,
}

impl Default for LogRotation {
    /// Upstream's: 10 MiB, 5 files, 10 s.
    fn default() -> Self {
        Self {
            max_size: 10 << 20,
            max_files: 5,
            interval: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests;
