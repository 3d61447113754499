//! Whether memory, disk or process numbers are scarce: `pkg/kubelet/eviction`, pure.

use std::time::Duration;

use knode_linux::filewatch::FileSystemUsage;

/// How long a pressure must be gone before it is reported gone (upstream: `evictionPressureTransitionPeriod`).
const TRANSITION: Duration = Duration::from_secs(300);

/// Below what the machine is under pressure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Bytes of available memory.
    pub memory_available: u64,
    /// Share of the node's file system that is available.
    pub nodefs_available: f32,
    /// Share of its inodes that is free.
    pub nodefs_inodes_free: f32,
    /// Share of the images' file system that is available.
    pub imagefs_available: f32,
    /// Share of its inodes that is free.
    pub imagefs_inodes_free: f32,
    /// Share of process numbers that is free; upstream has no default.
    pub pid_available: Option<f32>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            memory_available: 100 << 20,
            nodefs_available: 0.10,
            nodefs_inodes_free: 0.05,
            imagefs_available: 0.15,
            imagefs_inodes_free: 0.05,
            pid_available: None,
        }
    }
}

/// What was measured at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Bytes of available memory.
    pub memory_available: u64,
    /// The node's file system.
    pub nodefs: FileSystemUsage,
    /// The images' file system, if the runtime names it.
    pub imagefs: Option<FileSystemUsage>,
    /// Tasks there are.
    pub tasks: u64,
    /// Tasks there may be.
    pub max_tasks: u64,
}

/// What is scarce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Disk space or inodes.
    pub disk: bool,
    /// Process numbers.
    pub pid: bool,
}

impl Sample {
    /// What the thresholds say about this sample alone.
    pub fn pressure(&self, limits: &Thresholds) -> Pressure {
        let scarce = |usage: &FileSystemUsage, space: f32, inodes: f32| {
            usage.available < share(usage.capacity, space)
                || (usage.inodes > 0 && usage.inodes_free < share(usage.inodes, inodes))
        };
        let node = scarce(&self.nodefs, limits.nodefs_available, limits.nodefs_inodes_free);
        let image = self
            .imagefs
            .is_some_and(|usage| scarce(&usage, limits.imagefs_available, limits.imagefs_inodes_free));
        let free = self.max_tasks.saturating_sub(self.tasks);
        Pressure {
            memory: self.memory_available < limits.memory_available,
            disk: node || image,
            pid: limits
                .pid_available
                .is_some_and(|limit| free < share(self.max_tasks, limit)),
        }
    }
}

/// The part of a quantity that a percentage names, rounded as upstream's float arithmetic does it.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
pub(crate) fn share(of: u64, percentage: f32) -> u64 {
    (of as f64 * f64::from(percentage)) as u64
}

/// Remembers when each pressure was last seen.
#[derive(Clone, Debug, Default)]
pub struct PressureState {
    memory: Option<Duration>,
    disk: Option<Duration>,
    pid: Option<Duration>,
}

impl PressureState {
    /// Takes in what a sample said at `now` (monotonic): a pressure is reported at once and for as long as it has
    /// been seen in the last five minutes.
    pub fn observe(&mut self, seen: Pressure, now: Duration) -> Pressure {
        Pressure {
            memory: held(&mut self.memory, seen.memory, now),
            disk: held(&mut self.disk, seen.disk, now),
            pid: held(&mut self.pid, seen.pid, now),
        }
    }
}

fn held(last: &mut Option<Duration>, seen: bool, now: Duration) -> bool {
    if seen {
        *last = Some(now);
    }
    last.is_some_and(|last| now.saturating_sub(last) < TRANSITION)
}
