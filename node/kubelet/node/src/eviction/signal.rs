//! What is measured.

use std::fmt;
use std::str::FromStr;

/// Something that can be scarce. The order is that in which it is seen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Bytes of memory that can be had.
    MemoryAvailable,
    /// Bytes of memory that pods may still take before they have all that is theirs.
    AllocatableMemoryAvailable,
    /// Bytes free on the file system with the kubelet's directory.
    NodefsAvailable,
    /// Inodes free there.
    NodefsInodesFree,
    /// Bytes free on the file system with the images.
    ImagefsAvailable,
    /// Inodes free there.
    ImagefsInodesFree,
    /// Process numbers that are free.
    PidAvailable,
}

/// A text names no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unsupported signal {0:?}; known: {known}", known = Signal::ALL.map(Signal::name).join(", "))]
pub struct UnknownSignal(String);

impl Signal {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::MemoryAvailable,
        Self::AllocatableMemoryAvailable,
        Self::NodefsAvailable,
        Self::NodefsInodesFree,
        Self::ImagefsAvailable,
        Self::ImagefsInodesFree,
        Self::PidAvailable,
    ];

    /// As it is written in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::AllocatableMemoryAvailable => "allocatableMemory.available",
            Self::NodefsAvailable => "nodefs.available",
            Self::NodefsInodesFree => "nodefs.inodesFree",
            Self::ImagefsAvailable => "imagefs.available",
            Self::ImagefsInodesFree => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    /// The resource that runs out, in the words of events and messages.
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable | Self::AllocatableMemoryAvailable => "memory",
            Self::NodefsAvailable | Self::ImagefsAvailable => "ephemeral-storage",
            Self::NodefsInodesFree | Self::ImagefsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }

    /// Whether it is about the images' file system.
    pub fn is_imagefs(self) -> bool {
        matches!(self, Self::ImagefsAvailable | Self::ImagefsInodesFree)
    }

    /// Whether it is about memory.
    pub fn is_memory(self) -> bool {
        matches!(self, Self::MemoryAvailable | Self::AllocatableMemoryAvailable)
    }

    /// Whether it is about a file system.
    pub fn is_disk(self) -> bool {
        !self.is_memory() && self != Self::PidAvailable
    }

    /// Whether it is told in decimal units, as upstream tells files and nothing else.
    pub fn is_decimal(self) -> bool {
        matches!(self, Self::NodefsInodesFree | Self::ImagefsInodesFree)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let known = Self::ALL.into_iter().find(|signal| signal.name() == text);
        known.ok_or_else(|| UnknownSignal(text.to_owned()))
    }
}
