//! The machine's processors and memory, and how they belong together.

mod read;

use std::collections::{BTreeMap, BTreeSet};

pub use read::{MachineError, read};

use crate::cpuset::CpuSet;
use crate::topology::{NumaInfo, NumaMask};

/// Where a logical processor is. Cores and caches have numbers of their own on the whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub id: u32,
    /// The core: processors that share it are its threads.
    pub core: u32,
    /// The package.
    pub socket: u32,
    /// The NUMA node.
    pub numa: u32,
    /// The last cache, by the lowest processor that shares it.
    pub cache: u32,
}

/// A NUMA node's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Bytes in all.
    pub memory: u64,
    /// Bytes of huge pages by their size in bytes.
    pub huge_pages: BTreeMap<u64, u64>,
    /// Distances to all nodes, in the order of their numbers.
    pub distances: Vec<u32>,
}

/// Processors and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The processors that are online, ascending.
    pub cpus: Vec<Cpu>,
    /// NUMA nodes by number; at least one.
    pub nodes: BTreeMap<u32, Node>,
}

impl Machine {
    /// All processors.
    pub fn all(&self) -> CpuSet {
        self.select(|_| true)
    }

    /// The processors of which something holds.
    pub fn select(&self, holds: impl Fn(&Cpu) -> bool) -> CpuSet {
        self.cpus
            .iter()
            .filter(|cpu| holds(cpu))
            .map(|cpu| cpu.id)
            .collect()
    }

    /// Those of these NUMA nodes.
    pub fn in_nodes(&self, nodes: NumaMask) -> CpuSet {
        self.select(|cpu| nodes.has(cpu.numa))
    }

    /// Numbers of the NUMA nodes, ascending.
    pub fn node_ids(&self) -> Vec<u32> {
        self.nodes.keys().copied().collect()
    }

    /// How many packages.
    pub fn sockets(&self) -> usize {
        self.distinct(|cpu| cpu.socket)
    }

    /// Threads that a core has.
    pub fn threads(&self) -> usize {
        (self.cpus.len() / self.distinct(|cpu| cpu.core).max(1)).max(1)
    }

    /// The packages with processors of these nodes.
    pub fn sockets_of(&self, nodes: NumaMask) -> BTreeSet<u32> {
        let within = self.cpus.iter().filter(|cpu| nodes.has(cpu.numa));
        within.map(|cpu| cpu.socket).collect()
    }

    /// What the choice of nodes needs to know.
    pub fn numa(&self, prefer_closest: bool) -> NumaInfo {
        NumaInfo {
            nodes: self.node_ids(),
            distances: self
                .nodes
                .iter()
                .map(|(id, node)| (*id, node.distances.clone()))
                .collect(),
            prefer_closest,
        }
    }

    fn distinct(&self, of: impl Fn(&Cpu) -> u32) -> usize {
        self.cpus.iter().map(of).collect::<BTreeSet<_>>().len()
    }
}

/// Name of the resource of huge pages of this size in bytes, such as `hugepages-2Mi`.
pub fn huge_page_resource(size: u64) -> String {
    let units = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let unit = units.iter().find(|(shift, _)| size.is_multiple_of(1u64 << shift));
    let text = unit.map_or_else(
        || size.to_string(),
        |(shift, name)| format!("{}{name}", size >> shift),
    );
    format!("hugepages-{text}")
}
