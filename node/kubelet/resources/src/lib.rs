//! Processors, memory and NUMA nodes of pods: what is exclusive, what is shared, what is reserved.
//!
//! [`StaticCpus`](cpu::StaticCpus), [`StaticMemory`](memory::StaticMemory) and [`topology`] are pure tables and decisions;
//! [`Managers`] puts them together, and keeps them in the kubelet's state files.

pub mod allocatable;
mod ask;
mod checkpoint;
pub mod cpu;
mod cpuset;
pub mod machine;
mod managers;
pub mod memory;
mod options;
pub mod topology;

pub use checkpoint::StateError;
pub use cpuset::{CpuSet, CpuSetError};
pub use managers::{Denied, MOST_NODES, ManagerError, ManagerSettings, Managers, Pin};
pub use options::OptionError;
