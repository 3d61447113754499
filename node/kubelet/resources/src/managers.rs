//! All managers together: admission of pods, where their containers run, and the state files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::ask::Ask;
use crate::checkpoint::StateError;
use crate::cpu::{CpuError, CpuPolicy, CpuState, StaticCpus};
use crate::cpuset::CpuSet;
use crate::machine::Machine;
use crate::memory::{MemoryError, MemoryPolicy, MemoryState, Reservation, Reusable, StaticMemory};
use crate::topology::{AllocateError, HintProvider, Hints, NumaInfo, Policy, Scope, TopologyHint};

/// NUMA nodes that a machine may have at most for a policy of topology, unless `max-allowable-numa-nodes` says more.
pub const MOST_NODES: usize = 8;

/// How resources are managed.
#[derive(Clone, Debug, Default)]
pub struct ManagerSettings {
    /// `cpuManagerPolicy` with its options.
    pub cpu: CpuPolicy,
    /// `reservedSystemCPUs`.
    pub reserved_cpus: CpuSet,
    /// Processors that `systemReserved` and `kubeReserved` come to, rounded up.
    pub reserved_count: usize,
    /// `memoryManagerPolicy`.
    pub memory: MemoryPolicy,
    /// `reservedMemory`.
    pub reserved_memory: Reservation,
    /// `topologyManagerPolicy`.
    pub topology: Policy,
    /// `topologyManagerScope`.
    pub scope: Scope,
    /// `prefer-closest-numa-nodes`.
    pub prefer_closest: bool,
    /// `max-allowable-numa-nodes`; 0 is [`MOST_NODES`].
    pub most_nodes: usize,
    /// Where `cpu_manager_state` and `memory_manager_state` are: the kubelet's directory.
    pub directory: PathBuf,
}

/// The managers cannot begin.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ManagerError {
    #[error("CPU manager")]
    Cpu(#[source] CpuError),
    #[error("memory manager")]
    Memory(#[source] MemoryError),
    #[error("topology manager: {nodes} NUMA nodes are more than the {most} that are allowed")]
    Nodes { nodes: usize, most: usize },
    #[error("topology manager: single-numa-node does not go with the CPU manager's align-by-socket")]
    Sockets,
    #[error(transparent)]
    State(#[from] StateError),
}

/// Why a pod must not run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The pod's reason.
    pub reason: String,
    /// The pod's message.
    pub message: String,
}

/// Where a container runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pin {
    /// Its processors; empty for all.
    pub cpus: String,
    /// Its memory's nodes; empty for all.
    pub mems: String,
    /// Whether the processors are its alone.
    pub exclusive: bool,
}

#[derive(Clone)]
struct Tables {
    cpu: Option<StaticCpus>,
    memory: Option<StaticMemory>,
}

impl Tables {
    fn same(&self, other: &Self) -> bool {
        self.cpu.as_ref().map(StaticCpus::state) == other.cpu.as_ref().map(StaticCpus::state)
            && self.memory.as_ref().map(StaticMemory::state) == other.memory.as_ref().map(StaticMemory::state)
    }
}

/// What the containers of a pod leave to those after them.
#[derive(Default)]
struct Left {
    cpus: CpuSet,
    memory: Reusable,
}

/// Processors, memory and NUMA nodes of all pods. Every change is in the state files before the call comes back.
pub struct Managers {
    settings: ManagerSettings,
    numa: NumaInfo,
    allocatable: CpuSet,
    tables: Mutex<Tables>,
    providers: Mutex<Vec<Arc<dyn HintProvider>>>,
}

impl Managers {
    /// Takes up what the state files say.
    ///
    /// # Errors
    /// [`ManagerError`] where settings, files and machine do not fit one another.
    pub fn open(settings: ManagerSettings, machine: &Machine) -> Result<Self, ManagerError> {
        let most = if settings.most_nodes == 0 {
            MOST_NODES
        } else {
            settings.most_nodes
        };
        if settings.topology != Policy::None && machine.nodes.len() > most {
            let nodes = machine.nodes.len();
            return Err(ManagerError::Nodes { nodes, most });
        }
        let cpu = match &settings.cpu {
            CpuPolicy::None => {
                CpuState::load(&cpu_file(&settings), settings.cpu.name())?;
                None
            }
            CpuPolicy::Static(options) => {
                if options.align_by_socket && settings.topology == Policy::SingleNumaNode {
                    return Err(ManagerError::Sockets);
                }
                let state = CpuState::load(&cpu_file(&settings), settings.cpu.name())?;
                let (reserved, count) = (settings.reserved_cpus.clone(), settings.reserved_count);
                let cpus = StaticCpus::new(machine.clone(), *options, reserved, count, state);
                Some(cpus.map_err(|error| invalid_cpu(&settings, error))?)
            }
        };
        let state = MemoryState::load(&memory_file(&settings), settings.memory.name())?;
        let memory = match settings.memory {
            MemoryPolicy::None => None,
            MemoryPolicy::Static => {
                let memory = StaticMemory::new(machine, &settings.reserved_memory, state);
                Some(memory.map_err(|error| invalid_memory(&settings, error))?)
            }
        };
        let managers = Self {
            numa: machine.numa(settings.prefer_closest),
            allocatable: cpu
                .as_ref()
                .map_or_else(|| machine.all(), StaticCpus::allocatable),
            settings,
            tables: Mutex::new(Tables { cpu, memory }),
            providers: Mutex::default(),
        };
        managers.store(&managers.tables())?;
        Ok(managers)
    }

    /// Lets another kind of resource take part.
    pub fn add_provider(&self, provider: Arc<dyn HintProvider>) {
        self.providers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(provider);
    }

    /// Whether containers run on processors that are chosen: the shared ones change as pods come and go.
    pub fn pins_cpus(&self) -> bool {
        self.settings.cpu != CpuPolicy::None
    }

    /// Whether guaranteed pods' memory comes from chosen nodes.
    pub fn pins_memory(&self) -> bool {
        self.settings.memory != MemoryPolicy::None
    }

    /// Processors that pods may have for themselves.
    pub fn allocatable_cpus(&self) -> &CpuSet {
        &self.allocatable
    }

    /// Gives the pod what it asks for, or nothing. What it has already is kept, so that a restart can ask again.
    ///
    /// # Errors
    /// [`Denied`] with upstream's reasons.
    pub fn admit(&self, pod: &Pod, guaranteed: bool) -> Result<(), Denied> {
        let ask = Ask::of(pod, guaranteed);
        let providers = self.providers();
        let mut tables = self.tables();
        let saved = tables.clone();
        let placing = Placing {
            settings: &self.settings,
            numa: &self.numa,
            providers: &providers,
            pod,
            ask: &ask,
        };
        if let Err(denied) = placing.run(&mut tables) {
            *tables = saved;
            for provider in &providers {
                provider.release(&ask.uid);
            }
            return Err(denied);
        }
        if !tables.same(&saved) {
            self.stored(&tables);
        }
        Ok(())
    }

    /// Takes back everything that a pod has; whether others may run in other places now.
    pub fn release(&self, uid: &str) -> bool {
        for provider in self.providers() {
            provider.release(uid);
        }
        let mut tables = self.tables();
        let cpus = tables.cpu.as_mut().is_some_and(|cpu| cpu.release(uid));
        let memory = tables.memory.as_mut().is_some_and(|memory| memory.release(uid));
        if cpus || memory {
            self.stored(&tables);
        }
        cpus
    }

    /// Takes back what pods have that are not among these.
    pub fn retain(&self, uids: &BTreeSet<String>) {
        let tables = self.tables();
        let cpus = tables
            .cpu
            .iter()
            .flat_map(|cpu| cpu.state().entries.keys().cloned());
        let memory = tables
            .memory
            .iter()
            .flat_map(|memory| memory.state().entries.keys().cloned());
        let gone: BTreeSet<String> = cpus.chain(memory).filter(|uid| !uids.contains(uid)).collect();
        drop(tables);
        for uid in gone {
            self.release(&uid);
        }
    }

    /// Where a container runs.
    pub fn pin(&self, uid: &str, container: &str) -> Pin {
        let tables = self.tables();
        let own = tables.cpu.as_ref().and_then(|cpu| cpu.state().of(uid, container));
        let shared = || tables.cpu.as_ref().map(|cpu| &cpu.state().shared);
        let mems = tables
            .memory
            .as_ref()
            .and_then(|memory| memory.nodes_of(uid, container));
        let mems: CpuSet = mems
            .into_iter()
            .flat_map(|mask| mask.nodes().collect::<Vec<_>>())
            .collect();
        Pin {
            exclusive: own.is_some(),
            cpus: own.or_else(shared).map(CpuSet::to_string).unwrap_or_default(),
            mems: mems.to_string(),
        }
    }

    /// Whether any container of the pod has processors of its own.
    pub fn has_exclusive(&self, uid: &str) -> bool {
        let tables = self.tables();
        tables
            .cpu
            .as_ref()
            .is_some_and(|cpu| cpu.state().entries.contains_key(uid))
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn providers(&self) -> Vec<Arc<dyn HintProvider>> {
        self.providers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn store(&self, tables: &Tables) -> Result<(), StateError> {
        let none = (CpuState::default(), MemoryState::default());
        let cpu = tables.cpu.as_ref().map_or(&none.0, StaticCpus::state);
        cpu.store(&cpu_file(&self.settings), self.settings.cpu.name())?;
        let memory = tables.memory.as_ref().map_or(&none.1, StaticMemory::state);
        memory.store(&memory_file(&self.settings), self.settings.memory.name())
    }

    /// As upstream, a file that cannot be written keeps no pod from running.
    fn stored(&self, tables: &Tables) {
        if (tables.cpu.is_some() || tables.memory.is_some())
            && let Err(error) = self.store(tables)
        {
            tracing::error!(%error, source = ?std::error::Error::source(&error), "cannot keep what pods were given");
        }
    }
}

fn cpu_file(settings: &ManagerSettings) -> PathBuf {
    settings.directory.join("cpu_manager_state")
}

fn memory_file(settings: &ManagerSettings) -> PathBuf {
    settings.directory.join("memory_manager_state")
}

fn invalid_cpu(settings: &ManagerSettings, error: CpuError) -> ManagerError {
    match error {
        CpuError::State(problem) => StateError::Invalid {
            path: cpu_file(settings),
            problem,
        }
        .into(),
        error => ManagerError::Cpu(error),
    }
}

fn invalid_memory(settings: &ManagerSettings, error: MemoryError) -> ManagerError {
    match error {
        MemoryError::State => StateError::Invalid {
            path: memory_file(settings),
            problem: error.to_string(),
        }
        .into(),
        error => ManagerError::Memory(error),
    }
}

/// One pod's placing.
struct Placing<'a> {
    settings: &'a ManagerSettings,
    numa: &'a NumaInfo,
    providers: &'a [Arc<dyn HintProvider>],
    pod: &'a Pod,
    ask: &'a Ask,
}

impl Placing<'_> {
    fn run(&self, tables: &mut Tables) -> Result<(), Denied> {
        let mut left = Left::default();
        let whole = match (self.settings.topology, self.settings.scope) {
            (Policy::None, _) => Some(TopologyHint::ANY),
            (_, Scope::Pod) => Some(self.choose(&self.pod_hints(tables))?),
            (_, Scope::Container) => None,
        };
        let spec = self.pod.spec.as_ref();
        let inits = spec
            .into_iter()
            .flat_map(|spec| spec.init_containers.iter().flatten());
        let mains = spec.into_iter().flat_map(|spec| &spec.containers);
        for (index, container) in inits.chain(mains).enumerate() {
            let hint = match whole {
                Some(hint) => hint,
                None => self.choose(&self.container_hints(tables, container, index, &left))?,
            };
            self.give(tables, container, index, hint, &mut left)?;
        }
        Ok(())
    }

    fn choose(&self, hints: &[Hints]) -> Result<TopologyHint, Denied> {
        let choice = self.settings.topology.choose(self.numa, hints);
        match choice.admit {
            true => Ok(choice.hint),
            false => Err(Denied {
                reason: "TopologyAffinityError".to_owned(),
                message: "Resources cannot be allocated with Topology locality".to_owned(),
            }),
        }
    }

    fn pod_hints(&self, tables: &Tables) -> Vec<Hints> {
        let mut all: Vec<Hints> = self.providers.iter().map(|one| one.pod_hints(self.pod)).collect();
        all.extend(tables.cpu.as_ref().map(|cpu| cpu_hints(cpu.pod_hints(self.ask))));
        all.extend(tables.memory.as_ref().map(|memory| memory.pod_hints(self.ask)));
        all
    }

    fn container_hints(
        &self,
        tables: &Tables,
        container: &Container,
        index: usize,
        left: &Left,
    ) -> Vec<Hints> {
        let (uid, ask) = (&self.ask.uid, &self.ask.containers[index]);
        let providers = self.providers.iter();
        let mut all: Vec<Hints> = providers
            .map(|one| one.container_hints(self.pod, container))
            .collect();
        let cpu = tables.cpu.as_ref();
        all.extend(cpu.map(|cpu| cpu_hints(cpu.container_hints(uid, ask, &left.cpus))));
        let memory = tables.memory.as_ref();
        all.extend(memory.map(|memory| memory.container_hints(uid, ask, &left.memory)));
        all
    }

    fn give(
        &self,
        tables: &mut Tables,
        container: &Container,
        index: usize,
        hint: TopologyHint,
        left: &mut Left,
    ) -> Result<(), Denied> {
        let denied = |error: AllocateError| Denied {
            reason: error.reason,
            message: error.message,
        };
        for provider in self.providers {
            provider.allocate(self.pod, container, hint).map_err(denied)?;
        }
        let ask = &self.ask.containers[index];
        if let Some(cpu) = &mut tables.cpu {
            cpu.allocate(&self.ask.uid, ask, hint, &mut left.cpus)
                .map_err(denied)?;
        }
        if let Some(memory) = &mut tables.memory {
            memory
                .allocate(self.ask, ask, hint, &mut left.memory)
                .map_err(denied)?;
        }
        Ok(())
    }
}

/// A container without processors of its own has no say.
fn cpu_hints(hints: Option<Vec<TopologyHint>>) -> Hints {
    hints
        .into_iter()
        .map(|hints| ("cpu".to_owned(), Some(hints)))
        .collect()
}

#[cfg(test)]
#[path = "managers_tests.rs"]
mod tests;
