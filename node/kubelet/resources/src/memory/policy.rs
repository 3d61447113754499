//! The static policy (upstream: `policy_static.go`).

use std::collections::BTreeMap;

use super::{Block, MemoryState, NodeState, Table};
use crate::ask::{Ask, ContainerAsk, Kind};
use crate::machine::{Machine, huge_page_resource};
use crate::topology::{AllocateError, Hints, NumaMask, TopologyHint};

/// Bytes by node and resource that pods do not get (`reservedMemory`).
pub type Reservation = BTreeMap<u32, BTreeMap<String, u64>>;

/// What is left of the pod's init containers' memory, by nodes and resource.
pub(crate) type Reusable = BTreeMap<(NumaMask, String), u64>;

/// A reservation or a state that does not fit the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum MemoryError {
    #[error("you should specify the system reserved memory (reservedMemory)")]
    NothingReserved,
    #[error("reservedMemory: there is no NUMA node {0}")]
    NoNode(u32),
    #[error("reservedMemory: node {node} has not so much {resource}")]
    TooMuch { node: u32, resource: String },
    #[error("the expected machine state is different from the real one")]
    State,
}

/// Memory of guaranteed pods. A state machine: each call is one step, nothing is read or written.
#[derive(Clone, Debug)]
pub struct StaticMemory {
    state: MemoryState,
}

impl StaticMemory {
    /// Takes up a state, or begins with an empty one.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn new(machine: &Machine, reserved: &Reservation, state: MemoryState) -> Result<Self, MemoryError> {
        let memory = reserved.values().filter_map(|node| node.get("memory"));
        if memory.sum::<u64>() == 0 {
            return Err(MemoryError::NothingReserved);
        }
        if let Some(node) = reserved.keys().find(|node| !machine.nodes.contains_key(node)) {
            return Err(MemoryError::NoNode(*node));
        }
        let mut fresh = Self {
            state: MemoryState {
                nodes: untouched(machine, reserved)?,
                entries: BTreeMap::new(),
            },
        };
        if state.nodes.is_empty() && state.entries.is_empty() {
            return Ok(fresh);
        }
        fresh.replay(&state)?;
        Ok(fresh)
    }

    /// Counts what containers have anew: it must come to what the state says.
    fn replay(&mut self, state: &MemoryState) -> Result<(), MemoryError> {
        for blocks in state.entries.values().flat_map(BTreeMap::values) {
            for block in blocks {
                let known = |node: &u32| {
                    let node = self.state.nodes.get(node);
                    node.is_some_and(|node| node.memory.contains_key(&block.resource))
                };
                if !block.affinity.iter().all(known) {
                    return Err(MemoryError::State);
                }
                self.charge(&block.affinity, &block.resource, block.size);
            }
        }
        // What a group of nodes gave is told apart by the order of the calls alone: groups are compared as a whole.
        match totals(&self.state.nodes) == totals(&state.nodes) {
            true => {
                self.state = state.clone();
                Ok(())
            }
            false => Err(MemoryError::State),
        }
    }

    /// Who has what.
    pub fn state(&self) -> &MemoryState {
        &self.state
    }

    /// The nodes that a container's memory comes from; none if it comes from anywhere.
    pub fn nodes_of(&self, uid: &str, container: &str) -> Option<NumaMask> {
        let blocks = self.state.of(uid, container)?;
        let nodes = blocks.iter().flat_map(|block| block.affinity.iter().copied());
        Some(NumaMask::of(nodes)).filter(|mask| !mask.is_empty())
    }

    /// Gives a container its memory. What it has already is kept.
    ///
    /// # Errors
    /// [`AllocateError`] if no nodes have enough.
    pub(crate) fn allocate(
        &mut self,
        ask: &Ask,
        container: &ContainerAsk,
        affinity: TopologyHint,
        reusable: &mut Reusable,
    ) -> Result<(), AllocateError> {
        if container.memory.is_empty() {
            return Ok(());
        }
        if let Some(blocks) = self.state.of(&ask.uid, &container.name) {
            note_reusable(container, blocks, reusable);
            return Ok(());
        }
        let mask = self.settle(container, affinity, reusable)?;
        let nodes: Vec<u32> = mask.nodes().collect();
        let mut blocks = Vec::new();
        for (resource, size) in &container.memory {
            let known = reusable.get(&(mask, resource.clone())).copied().unwrap_or(0);
            self.charge(&nodes, resource, size.saturating_sub(known));
            blocks.push(Block {
                affinity: nodes.clone(),
                resource: resource.clone(),
                size: *size,
            });
        }
        note_reusable(container, &blocks, reusable);
        self.shrink_inits(ask, container, &blocks);
        let containers = self.state.entries.entry(ask.uid.clone()).or_default();
        containers.insert(container.name.clone(), blocks);
        Ok(())
    }

    /// The nodes for a container: those that were chosen, or more where these have not enough.
    fn settle(
        &self,
        container: &ContainerAsk,
        hint: TopologyHint,
        reusable: &Reusable,
    ) -> Result<NumaMask, AllocateError> {
        let failed = |what: &str| {
            Err(AllocateError::unexpected(format!(
                "Allocate failed due to [memorymanager] {what}, which is unexpected"
            )))
        };
        let all = self.hints(&container.memory, reusable);
        let best = |within: NumaMask| {
            let fit = all
                .iter()
                .filter(|one| one.affinity.is_some_and(|mask| within.is_subset(mask)));
            // The narrowest comes first.
            fit.min_by_key(|one| !one.preferred)
        };
        let mut mask = match hint.affinity {
            Some(mask) => mask,
            None => match best(NumaMask::EMPTY) {
                None => {
                    return failed(
                        "failed to get the default NUMA affinity, no NUMA nodes with enough memory is available",
                    );
                }
                Some(found) if hint.preferred && !found.preferred => {
                    return failed("failed to find the default preferred hint");
                }
                Some(found) => found.affinity.unwrap_or_default(),
            },
        };
        if !self.has_enough(mask, &container.memory, reusable) {
            mask = match best(mask) {
                None => return failed("failed to find NUMA nodes to extend the current topology hint"),
                Some(found) if hint.preferred && !found.preferred => {
                    return failed("failed to find the extended preferred hint");
                }
                Some(found) => found.affinity.unwrap_or_default(),
            };
        }
        match self.mixes(mask) {
            true => failed("preferred hint violates NUMA node allocation"),
            false => Ok(mask),
        }
    }

    fn has_enough(&self, mask: NumaMask, wanted: &BTreeMap<String, u64>, reusable: &Reusable) -> bool {
        wanted.iter().all(|(resource, size)| {
            let known = reusable.get(&(mask, resource.clone())).copied().unwrap_or(0);
            self.sum(mask, resource, |table| table.free) + known >= *size
        })
    }

    fn sum(&self, mask: NumaMask, resource: &str, of: impl Fn(&Table) -> u64) -> u64 {
        let tables = mask
            .nodes()
            .filter_map(|node| self.state.nodes.get(&node)?.memory.get(resource));
        tables.map(of).sum()
    }

    /// A node is either used alone or always together with the same others.
    fn mixes(&self, mask: NumaMask) -> bool {
        mask.count() > 1
            && mask
                .nodes()
                .filter_map(|node| self.state.nodes.get(&node))
                .any(|node| node.assignments > 0 && NumaMask::of(node.cells.iter().copied()) != mask)
    }

    fn charge(&mut self, nodes: &[u32], resource: &str, mut size: u64) {
        for id in nodes {
            let Some(node) = self.state.nodes.get_mut(id) else {
                continue;
            };
            node.assignments += 1;
            node.cells = nodes.to_vec();
            let Some(table) = node.memory.get_mut(resource) else {
                continue;
            };
            let part = table.free.min(size);
            table.reserved += part;
            table.free -= part;
            size -= part;
        }
    }

    /// What is used again is counted once: the init containers' blocks become smaller.
    fn shrink_inits(&mut self, ask: &Ask, container: &ContainerAsk, blocks: &[Block]) {
        let Some(own) = self.state.entries.get_mut(&ask.uid) else {
            return;
        };
        let before = ask.containers.iter().take_while(|one| one.name != container.name);
        let inits: Vec<&String> = before
            .filter(|one| one.kind == Kind::Init)
            .map(|one| &one.name)
            .collect();
        for block in blocks {
            let mut size = block.size;
            for name in &inits {
                let earlier = own.get_mut(*name).into_iter().flatten();
                for old in
                    earlier.filter(|old| old.resource == block.resource && old.affinity == block.affinity)
                {
                    let part = old.size.min(size);
                    old.size -= part;
                    size -= part;
                }
            }
        }
    }

    /// Takes back what a pod has. Whether it had any.
    pub fn release(&mut self, uid: &str) -> bool {
        let Some(own) = self.state.entries.remove(uid) else {
            return false;
        };
        for block in own.into_values().flatten() {
            let mut size = block.size;
            for id in &block.affinity {
                let Some(node) = self.state.nodes.get_mut(id) else {
                    continue;
                };
                node.assignments -= 1;
                if node.assignments == 0 {
                    node.cells = vec![*id];
                }
                let Some(table) = node.memory.get_mut(&block.resource) else {
                    continue;
                };
                let part = table.reserved.min(size);
                table.free += part;
                table.reserved -= part;
                size -= part;
            }
        }
        true
    }

    /// Where one container's memory could come from.
    pub(crate) fn container_hints(&self, uid: &str, container: &ContainerAsk, reusable: &Reusable) -> Hints {
        match self.state.of(uid, &container.name) {
            Some(blocks) => again(blocks),
            None => self.by_resource(&container.memory, reusable),
        }
    }

    /// Where a whole pod's could.
    pub fn pod_hints(&self, ask: &Ask) -> Hints {
        let known = ask
            .containers
            .iter()
            .find_map(|one| self.state.of(&ask.uid, &one.name));
        if let Some(blocks) = known {
            return again(blocks);
        }
        let names = ask.containers.iter().flat_map(|one| one.memory.keys());
        let total = |name: &String| ask.peak(|one| one.memory.get(name).copied().unwrap_or(0));
        let wanted: BTreeMap<String, u64> = names.map(|name| (name.clone(), total(name))).collect();
        self.by_resource(&wanted, &Reusable::new())
    }

    fn by_resource(&self, wanted: &BTreeMap<String, u64>, reusable: &Reusable) -> Hints {
        let hints = self.hints(wanted, reusable);
        wanted
            .keys()
            .map(|name| (name.clone(), Some(hints.clone())))
            .collect()
    }

    /// Sets of nodes with enough of everything, the narrowest first; the smallest that could ever have enough are
    /// preferred.
    fn hints(&self, wanted: &BTreeMap<String, u64>, reusable: &Reusable) -> Vec<TopologyHint> {
        let ids: Vec<u32> = self.state.nodes.keys().copied().collect();
        let could = |mask: &NumaMask| {
            let mut all = wanted.iter();
            all.all(|(name, size)| self.sum(*mask, name, |table| table.allocatable) >= *size)
        };
        let masks: Vec<NumaMask> = NumaMask::subsets(&ids).into_iter().filter(could).collect();
        let least = masks.first().map_or(0, |mask| mask.count());
        let grouped = |mask: &NumaMask| {
            let node = mask.nodes().next().and_then(|node| self.state.nodes.get(&node));
            mask.count() == 1 && node.is_some_and(|node| node.cells.len() > 1)
        };
        let fits = |mask: &NumaMask| {
            !grouped(mask) && !self.mixes(*mask) && self.has_enough(*mask, wanted, reusable)
        };
        let hint = |mask: NumaMask| TopologyHint::new(mask, mask.count() == least);
        masks.into_iter().filter(fits).map(hint).collect()
    }
}

/// What a container has is what it prefers.
fn again(blocks: &[Block]) -> Hints {
    let hint = |block: &Block| {
        let mask = NumaMask::of(block.affinity.iter().copied());
        (block.resource.clone(), Some(vec![TopologyHint::new(mask, true)]))
    };
    blocks.iter().map(hint).collect()
}

/// An init container's memory can be used again, by what runs after it.
fn note_reusable(container: &ContainerAsk, blocks: &[Block], reusable: &mut Reusable) {
    for block in blocks {
        let key = (
            NumaMask::of(block.affinity.iter().copied()),
            block.resource.clone(),
        );
        let left = reusable.entry(key).or_insert(0);
        *left = match container.kind {
            Kind::Init => block.size.max(*left),
            _ => left.saturating_sub(block.size),
        };
    }
}

fn totals(nodes: &BTreeMap<u32, NodeState>) -> BTreeMap<(Vec<u32>, String), [u64; 5]> {
    let mut all = BTreeMap::new();
    for node in nodes.values() {
        let mut cells = node.cells.clone();
        cells.sort_unstable();
        for (name, table) in &node.memory {
            let sum: &mut [u64; 5] = all.entry((cells.clone(), name.clone())).or_default();
            let own = [
                table.total,
                table.system_reserved,
                table.allocatable,
                table.reserved,
                table.free,
            ];
            for (sum, own) in sum.iter_mut().zip(own) {
                *sum += own;
            }
        }
    }
    all
}

/// The nodes of which nobody has anything.
fn untouched(machine: &Machine, reserved: &Reservation) -> Result<BTreeMap<u32, NodeState>, MemoryError> {
    let mut nodes = BTreeMap::new();
    for (id, node) in &machine.nodes {
        let held = |resource: &str| {
            reserved
                .get(id)
                .and_then(|own| own.get(resource))
                .copied()
                .unwrap_or(0)
        };
        let huge: u64 = node.huge_pages.values().sum();
        let pages = node
            .huge_pages
            .iter()
            .map(|(size, bytes)| (huge_page_resource(*size), *bytes, 0));
        let mut memory = BTreeMap::new();
        for (resource, total, other) in pages.chain([("memory".to_owned(), node.memory, huge)]) {
            let system_reserved = held(&resource);
            let allocatable = total.checked_sub(system_reserved + other);
            let allocatable = allocatable.ok_or_else(|| MemoryError::TooMuch {
                node: *id,
                resource: resource.clone(),
            })?;
            let table = Table {
                total,
                system_reserved,
                allocatable,
                reserved: 0,
                free: allocatable,
            };
            memory.insert(resource, table);
        }
        let state = NodeState {
            assignments: 0,
            memory,
            cells: vec![*id],
        };
        nodes.insert(*id, state);
    }
    Ok(nodes)
}
