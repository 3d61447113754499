//! From measurements to observations.

use std::collections::BTreeMap;

use knode_linux::filewatch::FileSystemUsage;

use super::signal::Signal;

/// What was measured at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Bytes of available memory.
    pub memory_available: u64,
    /// Bytes of memory in all.
    pub memory: u64,
    /// Bytes of memory that all pods use and could not do without, and that they may use; none where that is not limited.
    pub pods_memory: Option<(u64, u64)>,
    /// The node's file system.
    pub nodefs: FileSystemUsage,
    /// The images' file system, if the runtime names it.
    pub imagefs: Option<FileSystemUsage>,
    /// Tasks there are.
    pub tasks: u64,
    /// Tasks there may be.
    pub max_tasks: u64,
}

/// How much there is of something, and how much of that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Free.
    pub available: u64,
    /// In all.
    pub capacity: u64,
}

/// Observations by signal; what could not be measured is not there.
pub type Observations = BTreeMap<Signal, Observation>;

impl Sample {
    /// The observations in it.
    pub fn observations(&self) -> Observations {
        let of = |available, capacity| Observation { available, capacity };
        let free = self.max_tasks.saturating_sub(self.tasks);
        let mut all = Observations::from([
            (Signal::MemoryAvailable, of(self.memory_available, self.memory)),
            (Signal::PidAvailable, of(free, self.max_tasks)),
        ]);
        if let Some((used, most)) = self.pods_memory {
            let left = most.saturating_sub(used);
            all.insert(Signal::AllocatableMemoryAvailable, of(left, left + used));
        }
        let disks = [
            (
                Some(self.nodefs),
                Signal::NodefsAvailable,
                Signal::NodefsInodesFree,
            ),
            (self.imagefs, Signal::ImagefsAvailable, Signal::ImagefsInodesFree),
        ];
        for (usage, space, inodes) in disks {
            let Some(usage) = usage else { continue };
            all.insert(space, of(usage.available, usage.capacity));
            // A file system without a limit of inodes has none to run out of.
            if usage.inodes > 0 {
                all.insert(inodes, of(usage.inodes_free, usage.inodes));
            }
        }
        all
    }
}
