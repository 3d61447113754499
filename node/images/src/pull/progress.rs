//! Pulls under way, for people and metrics to look at.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::digest::Digest;
use crate::reference::Reference;

/// Events that a slow subscriber may be behind.
const EVENTS_AHEAD: usize = 256;

/// The pulls of a store: those under way, what happens to them, and what has come of all since it was opened.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pulls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, Running>>,
    totals: Mutex<PullTotals>,
    events: broadcast::Sender<PullEvent>,
}

#[derive(Debug)]
struct Running {
    image: String,
    started: SystemTime,
    phase: PullPhase,
    layers: Vec<Arc<LayerCounter>>,
    retries: u64,
}

#[derive(Debug)]
struct LayerCounter {
    digest: Digest,
    size: u64,
    fetched: AtomicU64,
    state: Mutex<LayerState>,
}

/// A pull under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullStatus {
    /// Tells pulls of one store apart.
    pub id: u64,
    /// The reference in normal form.
    pub image: String,
    /// When it began.
    pub started: SystemTime,
    /// What it is at.
    pub phase: PullPhase,
    /// Its layers, lowest first; none before the manifest is known.
    pub layers: Vec<LayerStatus>,
    /// Transfers that broke off and were taken up again.
    pub retries: u64,
}

impl PullStatus {
    /// Bytes that have arrived, and bytes that must: layers that were here before count as neither.
    pub fn bytes(&self) -> (u64, u64) {
        let wanted = self
            .layers
            .iter()
            .filter(|layer| layer.state != LayerState::Present);
        wanted.fold((0, 0), |(fetched, size), layer| {
            (fetched + layer.fetched, size + layer.size)
        })
    }
}

/// What a pull is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPhase {
    /// Asking the registry what the reference means.
    Resolving,
    /// Fetching, verifying and unpacking layers.
    Fetching,
    /// Making it durable.
    Storing,
}

/// A layer of a pull under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerStatus {
    /// The blob's digest.
    pub digest: Digest,
    /// Its bytes as transferred.
    pub size: u64,
    /// Bytes that have arrived.
    pub fetched: u64,
    /// What it is at.
    pub state: LayerState,
}

/// What a layer of a pull is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerState {
    /// It was here before.
    Present,
    /// Its turn has not come.
    Waiting,
    /// It arrives and is unpacked.
    Fetching,
    /// It is unpacked and verified.
    Done,
}

/// Something that happened to a pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum PullEvent {
    /// It began.
    Started {
        /// The pull.
        id: u64,
        /// The reference in normal form.
        image: String,
    },
    /// The manifest is known: [`Pulls::running`] tells the layers.
    Resolved {
        /// The pull.
        id: u64,
    },
    /// A layer changed its state.
    Layer {
        /// The pull.
        id: u64,
        /// The layer's blob.
        digest: Digest,
        /// What it is at now.
        state: LayerState,
    },
    /// A transfer broke off and is taken up again.
    Retried {
        /// The pull.
        id: u64,
        /// Why it broke off.
        reason: String,
    },
    /// It ended.
    Ended {
        /// The pull.
        id: u64,
        /// The reference in normal form.
        image: String,
        /// Bytes of layers that were transferred for it.
        bytes: u64,
        /// How long it took.
        elapsed: Duration,
        /// Why it failed, if it did.
        error: Option<String>,
    },
}

/// What has come of the pulls since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullTotals {
    /// Pulls that succeeded.
    pub succeeded: u64,
    /// Pulls that failed.
    pub failed: u64,
    /// Bytes of layers that were transferred, also for pulls that failed.
    pub bytes: u64,
    /// Transfers that broke off and were taken up again.
    pub retries: u64,
    /// Time that ended pulls took together.
    pub elapsed: Duration,
}

impl Default for Pulls {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                next: AtomicU64::new(1),
                running: Mutex::default(),
                totals: Mutex::default(),
                events: broadcast::channel(EVENTS_AHEAD).0,
            }),
        }
    }
}

impl Pulls {
    /// The pulls under way, the oldest first. Bytes are counted as they arrive: ask again for how far they are.
    pub fn running(&self) -> Vec<PullStatus> {
        let running = lock(&self.shared.running);
        running.iter().map(|(id, pull)| pull.status(*id)).collect()
    }

    /// What happens from now on. A subscriber that is 256 events behind is told so and goes on with the newer ones.
    pub fn subscribe(&self) -> broadcast::Receiver<PullEvent> {
        self.shared.events.subscribe()
    }

    /// What has come of all pulls.
    pub fn totals(&self) -> PullTotals {
        *lock(&self.shared.totals)
    }

    /// Notes that a pull begins.
    pub(super) fn begin(&self, reference: &Reference) -> Progress {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let image = reference.to_string();
        let running = Running {
            image: image.clone(),
            started: SystemTime::now(),
            phase: PullPhase::Resolving,
            layers: Vec::new(),
            retries: 0,
        };
        lock(&self.shared.running).insert(id, running);
        let progress = Progress {
            shared: self.shared.clone(),
            id,
            began: Instant::now(),
            error: Mutex::new(Some("the pull was given up".to_owned())),
        };
        progress.tell(PullEvent::Started { id, image });
        progress
    }
}

impl Running {
    fn status(&self, id: u64) -> PullStatus {
        PullStatus {
            id,
            image: self.image.clone(),
            started: self.started,
            phase: self.phase,
            layers: self.layers.iter().map(|layer| layer.status()).collect(),
            retries: self.retries,
        }
    }

    /// Bytes of layers that have arrived.
    fn fetched(&self) -> u64 {
        let fetched = self
            .layers
            .iter()
            .map(|layer| layer.fetched.load(Ordering::Relaxed));
        fetched.sum()
    }
}

impl LayerCounter {
    fn status(&self) -> LayerStatus {
        LayerStatus {
            digest: self.digest.clone(),
            size: self.size,
            fetched: self.fetched.load(Ordering::Relaxed),
            state: *lock(&self.state),
        }
    }
}

/// The notes of one pull. It has ended when this is dropped.
pub(super) struct Progress {
    shared: Arc<Shared>,
    id: u64,
    began: Instant,
    error: Mutex<Option<String>>,
}

impl Progress {
    /// Notes the layers that the manifest names, and whether each is here already.
    pub(super) fn resolved(&self, layers: impl Iterator<Item = (Digest, u64, bool)>) {
        let counter = |(digest, size, present)| {
            let state = match present {
                true => LayerState::Present,
                false => LayerState::Waiting,
            };
            Arc::new(LayerCounter {
                digest,
                size,
                fetched: AtomicU64::new(0),
                state: Mutex::new(state),
            })
        };
        self.change(|pull| {
            pull.layers = layers.map(counter).collect();
            pull.phase = PullPhase::Fetching;
        });
        self.tell(PullEvent::Resolved { id: self.id });
    }

    /// The notes of the layer at `index`.
    pub(super) fn layer(&self, index: usize) -> LayerProgress<'_> {
        let running = lock(&self.shared.running);
        let counter = running
            .get(&self.id)
            .and_then(|pull| pull.layers.get(index).cloned());
        LayerProgress {
            progress: self,
            counter,
        }
    }

    /// Notes that all is fetched.
    pub(super) fn storing(&self) {
        self.change(|pull| pull.phase = PullPhase::Storing);
    }

    /// Notes how it ends.
    pub(super) fn end(self, error: Option<String>) {
        *lock(&self.error) = error;
    }

    fn change(&self, change: impl FnOnce(&mut Running)) {
        if let Some(pull) = lock(&self.shared.running).get_mut(&self.id) {
            change(pull);
        }
    }

    fn tell(&self, event: PullEvent) {
        // Without a subscriber nobody needs to know.
        drop(self.shared.events.send(event));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let Some(pull) = lock(&self.shared.running).remove(&self.id) else {
            return;
        };
        let error = lock(&self.error).take();
        let elapsed = self.began.elapsed();
        {
            let mut totals = lock(&self.shared.totals);
            match error {
                None => totals.succeeded += 1,
                Some(_) => totals.failed += 1,
            }
            totals.bytes += pull.fetched();
            totals.retries += pull.retries;
            totals.elapsed += elapsed;
        }
        self.tell(PullEvent::Ended {
            id: self.id,
            bytes: pull.fetched(),
            image: pull.image,
            elapsed,
            error,
        });
    }
}

/// The notes of one layer.
pub(super) struct LayerProgress<'a> {
    progress: &'a Progress,
    counter: Option<Arc<LayerCounter>>,
}

impl LayerProgress<'_> {
    /// Notes bytes that arrived.
    pub(super) fn fetched(&self, bytes: u64) {
        if let Some(counter) = &self.counter {
            counter.fetched.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Notes what the layer is at.
    pub(super) fn is(&self, state: LayerState) {
        let Some(counter) = &self.counter else { return };
        *lock(&counter.state) = state;
        self.progress.tell(PullEvent::Layer {
            id: self.progress.id,
            digest: counter.digest.clone(),
            state,
        });
    }

    /// Notes that its transfer broke off.
    pub(super) fn retried(&self, reason: String) {
        self.progress.change(|pull| pull.retries += 1);
        self.progress.tell(PullEvent::Retried {
            id: self.progress.id,
            reason,
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
