//! The devices of the node, and the conversations with their plugins.

mod admit;
mod connection;
mod error;
mod registration;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Container, Pod};
use knode_client::Clock;
use knode_kubelet_resources::topology::{AllocateError, HintProvider, Hints, TopologyHint};
use tokio::sync::watch;

pub use error::{DevicesError, Rejected};
pub use registration::ByDirectory;

use crate::asked::Asked;
use crate::checkpoint::{Checkpoint, Remembered};
use crate::table::{Allocation, Count, Device, Table};
use connection::Connection;

/// The checkpoint's name.
const CHECKPOINT: &str = "kubelet_internal_checkpoint";

/// What the devices need.
#[derive(Clone)]
pub struct DevicesConfig {
    /// Where plugins put their sockets (upstream: `/var/lib/kubelet/device-plugins`).
    pub directory: PathBuf,
    /// Numbers of the machine's NUMA nodes.
    pub numa: Vec<u32>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The devices of the node. Cheap to share; what it has begun ends with it.
pub struct Devices {
    config: DevicesConfig,
    checkpoint: Checkpoint,
    state: Mutex<State>,
    /// Held while plugins are asked for devices: one pod after the other.
    asking: tokio::sync::Mutex<()>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    table: Table,
    connections: BTreeMap<String, Connection>,
    /// Tells connections of one resource apart.
    counter: u64,
}

impl Devices {
    /// Reads what was remembered. An unreadable checkpoint is left out, as upstream does.
    ///
    /// # Errors
    /// [`DevicesError::Directory`].
    pub fn open(config: DevicesConfig) -> Result<Arc<Self>, DevicesError> {
        let failed = |source| DevicesError::Directory {
            path: config.directory.clone(),
            source,
        };
        std::fs::create_dir_all(&config.directory).map_err(failed)?;
        let checkpoint = Checkpoint::new(config.directory.join(CHECKPOINT));
        let remembered = checkpoint.read().unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "what is known of allocated devices may not be up to date");
            None
        });
        let remembered = remembered.unwrap_or_default();
        let now = config.clock.monotonic();
        let table = Table::restored(remembered.registered.into_keys(), remembered.held, now);
        Ok(Arc::new(Self {
            config,
            checkpoint,
            state: Mutex::new(State {
                table,
                ..State::default()
            }),
            asking: tokio::sync::Mutex::default(),
            changes: watch::Sender::default(),
        }))
    }

    /// Changes whenever there are other devices, or other healthy ones.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How many devices there are by resource; none of a resource whose plugin has been gone for five minutes.
    pub fn counts(&self) -> BTreeMap<String, Count> {
        let now = self.config.clock.monotonic();
        let mut state = self.lock();
        let before = state.table.resources().count();
        let counts = state.table.counts(now);
        if state.table.resources().count() != before {
            self.remember(&state);
        }
        counts
    }

    /// Whether plugins offer this resource, or somebody has some of it.
    pub fn knows(&self, resource: &str) -> bool {
        self.lock().table.knows(resource)
    }

    /// Takes back everything that the pod with this uid has.
    pub fn give_back(&self, uid: &str) {
        let mut state = self.lock();
        if state.table.release(uid) {
            self.remember(&state);
        }
    }

    /// Takes back what pods have that are not among these.
    pub fn retain(&self, uids: &BTreeSet<String>) {
        let mut state = self.lock();
        if state.table.retain(uids) {
            self.remember(&state);
        }
    }

    /// What a container has, by resource.
    pub fn of_container(&self, uid: &str, container: &str) -> BTreeMap<String, Allocation> {
        let state = self.lock();
        let held = state.table.of_container(uid, container);
        held.cloned().unwrap_or_default()
    }

    /// Healthy devices by resource.
    pub fn healthy(&self) -> Vec<(String, String, Device)> {
        let state = self.lock();
        let healthy = state.table.healthy();
        healthy
            .map(|(resource, id, device)| (resource.to_owned(), id.to_owned(), device.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the checkpoint, under the lock so that an older state never follows a newer one.
    fn remember(&self, state: &State) {
        let mut registered: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for resource in state.table.resources() {
            registered.insert(resource.to_owned(), Vec::new());
        }
        for (resource, id, _) in state.table.healthy() {
            registered
                .entry(resource.to_owned())
                .or_default()
                .push(id.to_owned());
        }
        let remembered = Remembered {
            held: state.table.held(),
            registered,
        };
        if let Err(error) = self.checkpoint.write(&remembered) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "allocated devices would be forgotten at a restart");
        }
    }
}

impl HintProvider for Devices {
    fn container_hints(&self, pod: &Pod, container: &Container) -> Hints {
        let asked = Asked::of(pod);
        let Some(part) = asked.part(&container.name) else {
            return Hints::new();
        };
        self.lock().table.container_hints(&asked, part, &self.config.numa)
    }

    fn pod_hints(&self, pod: &Pod) -> Hints {
        self.lock().table.pod_hints(&Asked::of(pod), &self.config.numa)
    }

    fn allocate(
        &self,
        pod: &Pod,
        container: &Container,
        affinity: TopologyHint,
    ) -> Result<(), AllocateError> {
        let asked = Asked::of(pod);
        let Some(part) = asked.part(&container.name) else {
            return Ok(());
        };
        let mut state = self.lock();
        // After a restart plugins have yet to come back, and what runs goes on.
        if state.table.holds(&asked, part) {
            return Ok(());
        }
        let reserved = state.table.reserve(&asked, part, affinity.affinity);
        reserved.map_err(|error| AllocateError::unexpected(error::unexpected(&error)))
    }

    fn release(&self, pod_uid: &str) {
        self.give_back(pod_uid);
    }
}
