//! Memory of NUMA nodes (upstream: `pkg/kubelet/cm/memorymanager`).

mod policy;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use policy::Reusable;
pub use policy::{MemoryError, Reservation, StaticMemory};
pub use state::{Block, MemoryState, NodeState, Table};

/// `memoryManagerPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryPolicy {
    /// `None`: memory comes from anywhere.
    #[default]
    None,
    /// `Static`: guaranteed pods' memory comes from nodes that have enough of it.
    Static,
}

impl MemoryPolicy {
    /// The word of the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Static => "Static",
        }
    }
}
