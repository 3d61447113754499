//! The static policy (upstream: `policy_static.go`).

use super::take::take;
use super::{CpuOptions, CpuState};
use crate::ask::{Ask, ContainerAsk, Kind};
use crate::cpuset::CpuSet;
use crate::machine::Machine;
use crate::topology::{AllocateError, NumaMask, TopologyHint};

/// A reservation or a state that does not fit the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum CpuError {
    #[error("the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero")]
    NothingReserved,
    #[error("unable to reserve the required amount of CPUs (size of {found} did not equal {wanted})")]
    Reserve { found: CpuSet, wanted: usize },
    #[error("reserved CPUs {0} are not all there")]
    Missing(CpuSet),
    #[error("align-by-socket does not go with {0}")]
    Sockets(&'static str),
    #[error("{0}")]
    State(String),
}

/// Processors of guaranteed pods, and of everybody else. A state machine: each call is one step, nothing is read or
/// written.
#[derive(Clone, Debug)]
pub struct StaticCpus {
    machine: Machine,
    options: CpuOptions,
    reserved: CpuSet,
    state: CpuState,
}

impl StaticCpus {
    /// Takes up a state, or begins with an empty one. `reserved` are named ones; if none is, `count` of the first.
    ///
    /// # Errors
    /// [`CpuError`] if that many cannot be reserved, or the state is not of this machine.
    pub fn new(
        machine: Machine,
        options: CpuOptions,
        reserved: CpuSet,
        count: usize,
        state: CpuState,
    ) -> Result<Self, CpuError> {
        if options.align_by_socket && machine.sockets() > machine.nodes.len() {
            return Err(CpuError::Sockets("more packages than NUMA nodes"));
        }
        let reserved = match (reserved.is_empty(), count) {
            (false, _) => reserved,
            (true, 0) => return Err(CpuError::NothingReserved),
            (true, count) => {
                let plain = CpuOptions::default();
                take(&machine, plain, &machine.all(), count).ok_or(CpuError::Reserve {
                    found: machine.all(),
                    wanted: count,
                })?
            }
        };
        if !reserved.is_subset(&machine.all()) {
            return Err(CpuError::Missing(reserved));
        }
        let mut policy = Self {
            machine,
            options,
            reserved,
            state,
        };
        policy.check()?;
        Ok(policy)
    }

    fn check(&mut self) -> Result<(), CpuError> {
        let (all, exclusive) = (self.machine.all(), self.state.exclusive());
        let outside = match self.options.strict_reservation {
            true => self.reserved.clone(),
            false => CpuSet::EMPTY,
        };
        if self.state.shared.is_empty() && exclusive.is_empty() {
            self.state.shared = all.without(&outside);
            return Ok(());
        }
        let shared = &self.state.shared;
        let problem = match () {
            () if self.options.strict_reservation && !shared.intersection(&self.reserved).is_empty() => {
                format!(
                    "some of strictly reserved cpus: {:?} are present in defaultCpuSet: {:?}",
                    self.reserved.to_string(),
                    shared.to_string()
                )
            }
            () if !self.options.strict_reservation && !self.reserved.is_subset(shared) => {
                format!(
                    "not all reserved cpus: {:?} are present in defaultCpuSet: {:?}",
                    self.reserved.to_string(),
                    shared.to_string()
                )
            }
            () if !shared.intersection(&exclusive).is_empty() => {
                format!(
                    "cpuset: {:?} overlaps with default cpuset {:?}",
                    exclusive.to_string(),
                    shared.to_string()
                )
            }
            () if shared.union(&exclusive).union(&outside) != all => {
                format!(
                    "current set of available CPUs {:?} doesn't match with CPUs in state {:?}",
                    all.to_string(),
                    shared.union(&exclusive).to_string()
                )
            }
            () => return Ok(()),
        };
        Err(CpuError::State(problem))
    }

    /// Who has what.
    pub fn state(&self) -> &CpuState {
        &self.state
    }

    /// Those that pods may have for themselves.
    pub fn allocatable(&self) -> CpuSet {
        self.machine.all().without(&self.reserved)
    }

    fn free(&self) -> CpuSet {
        self.state.shared.without(&self.reserved)
    }

    /// Gives a container its processors, from these nodes as far as they have them. `reusable` are those of the pod's init
    /// containers, and is brought up to date. What it has already is kept.
    ///
    /// # Errors
    /// [`AllocateError`]: there are not enough, or not whole cores.
    pub fn allocate(
        &mut self,
        uid: &str,
        container: &ContainerAsk,
        affinity: TopologyHint,
        reusable: &mut CpuSet,
    ) -> Result<(), AllocateError> {
        if container.cpus == 0 {
            return Ok(());
        }
        let own = match self.state.of(uid, &container.name) {
            Some(own) => own.clone(),
            None => self.pick(container.cpus, affinity, reusable)?,
        };
        self.state.shared = self.state.shared.without(&own);
        let containers = self.state.entries.entry(uid.to_owned()).or_default();
        containers.insert(container.name.clone(), own.clone());
        *reusable = match container.kind {
            Kind::Init => reusable.union(&own),
            _ => reusable.without(&own),
        };
        Ok(())
    }

    fn whole_cores(&self, count: usize, reusable: &CpuSet) -> Result<(), AllocateError> {
        let threads = self.machine.threads();
        let error = |message| {
            Err(AllocateError {
                reason: "SMTAlignmentError".to_owned(),
                message,
            })
        };
        if !count.is_multiple_of(threads) {
            return error(format!(
                "SMT Alignment Error: requested {count} cpus not multiple cpus per core = {threads}"
            ));
        }
        // Reserved threads break their cores for everybody.
        let free = self.free().union(reusable);
        let broken = |core: u32| {
            self.machine
                .cpus
                .iter()
                .any(|cpu| cpu.core == core && !free.has(cpu.id))
        };
        let whole = self
            .machine
            .select(|cpu| free.has(cpu.id) && !broken(cpu.core))
            .len();
        match whole < count {
            true => error(format!(
                "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = {whole}, requested CPUs = {count}, CPUs per core = {threads}"
            )),
            false => Ok(()),
        }
    }

    fn pick(&self, count: usize, affinity: TopologyHint, reusable: &CpuSet) -> Result<CpuSet, AllocateError> {
        if self.options.full_cores {
            self.whole_cores(count, reusable)?;
        }
        let free = self.free().union(reusable);
        let not_enough = || {
            AllocateError::unexpected(format!(
                "Allocate failed due to not enough cpus available to satisfy request: requested={count}, available={}, which is unexpected",
                free.len()
            ))
        };
        let mut own = CpuSet::EMPTY;
        if let Some(nodes) = affinity.affinity {
            let near = self.near(nodes, &free);
            let some = count.min(near.len());
            own = take(&self.machine, self.options, &near, some).ok_or_else(not_enough)?;
        }
        let rest = take(
            &self.machine,
            self.options,
            &free.without(&own),
            count - own.len(),
        );
        Ok(own.union(&rest.ok_or_else(not_enough)?))
    }

    /// The free ones of the nodes; with `align-by-socket`, of their packages if the nodes themselves have too few.
    fn near(&self, nodes: NumaMask, free: &CpuSet) -> CpuSet {
        if !self.options.align_by_socket {
            return self.machine.in_nodes(nodes).intersection(free);
        }
        let sockets = self.machine.sockets_of(nodes);
        self.machine
            .select(|cpu| sockets.contains(&cpu.socket))
            .intersection(free)
    }

    /// Takes back what a pod has. Whether it had any.
    pub fn release(&mut self, uid: &str) -> bool {
        self.state.release(uid)
    }

    /// Where one container's processors could come from; none if it needs none of its own.
    pub fn container_hints(
        &self,
        uid: &str,
        container: &ContainerAsk,
        reusable: &CpuSet,
    ) -> Option<Vec<TopologyHint>> {
        let request = container.cpus;
        match (request, self.state.of(uid, &container.name)) {
            (0, _) => None,
            (_, Some(own)) if own.len() != request => Some(Vec::new()),
            (_, Some(own)) => Some(self.hints(own, &CpuSet::EMPTY, request)),
            (_, None) => Some(self.hints(&self.free(), reusable, request)),
        }
    }

    /// Where a whole pod's could.
    pub fn pod_hints(&self, ask: &Ask) -> Option<Vec<TopologyHint>> {
        let request = ask.peak(|container| container.cpus as u64) as usize;
        if request == 0 {
            return None;
        }
        let mut assigned = CpuSet::EMPTY;
        for container in &ask.containers {
            if let Some(own) = self.state.of(&ask.uid, &container.name) {
                if own.len() != container.cpus {
                    return Some(Vec::new());
                }
                assigned = assigned.union(own);
            }
        }
        match assigned.len() == request {
            true => Some(self.hints(&assigned, &CpuSet::EMPTY, request)),
            false => Some(self.hints(&self.free(), &assigned, request)),
        }
    }

    /// Sets of nodes with enough free processors and all the reusable ones; the smallest sets that could ever have enough
    /// are preferred.
    fn hints(&self, free: &CpuSet, reusable: &CpuSet, request: usize) -> Vec<TopologyHint> {
        let masks = NumaMask::subsets(&self.machine.node_ids());
        let large = |mask: &&NumaMask| self.machine.in_nodes(**mask).len() >= request;
        let least = masks
            .iter()
            .find(large)
            .map_or(masks.len() as u32, |mask| mask.count());
        let fits = |mask: &NumaMask| {
            let within = self.machine.in_nodes(*mask);
            let enough = within.intersection(&free.union(reusable)).len() >= request;
            reusable.is_subset(&within) && enough
        };
        let hint = |mask: NumaMask| TopologyHint::new(mask, self.is_preferred(mask, least));
        masks.into_iter().filter(fits).map(hint).collect()
    }

    fn is_preferred(&self, mask: NumaMask, least: u32) -> bool {
        let nodes_per_socket = (self.machine.nodes.len() / self.machine.sockets().max(1)) as u32;
        if !self.options.align_by_socket || nodes_per_socket == 0 {
            return mask.count() == least;
        }
        let sockets = self.machine.sockets_of(mask).len() as u32;
        sockets == least.div_ceil(nodes_per_socket)
    }
}
