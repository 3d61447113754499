//! A queue of keys to work on: each key at most once in the queue and never worked on twice at the same time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::{Backoff, Clock};

/// A work queue with the semantics of client-go's: a key added while it is being worked on comes again once
/// [`done`](Self::done), a key added twice comes once.
pub struct WorkQueue<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    clock: Arc<dyn Clock>,
    backoff: Backoff,
}

struct State<T> {
    ready: VecDeque<T>,
    dirty: HashSet<T>,
    processing: HashSet<T>,
    /// Keys that become ready at a time; the number keeps equal times apart.
    delayed: BTreeMap<(Duration, u64), T>,
    due: HashMap<T, (Duration, u64)>,
    failures: HashMap<T, u32>,
    next: u64,
    closed: bool,
}

impl<T: Clone + Eq + Hash> WorkQueue<T> {
    /// A queue whose failing keys back off as `backoff` says.
    pub fn new(clock: Arc<dyn Clock>, backoff: Backoff) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            next: 0,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            clock,
            backoff,
        }
    }

    /// Adds a key.
    pub fn add(&self, key: T) {
        self.lock().add(key);
        self.changed.notify_one();
    }

    /// Adds a key after a delay; of several delays for one key the shortest counts.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = self.clock.monotonic() + delay;
        self.lock().add_at(key, at);
        self.changed.notify_one();
    }

    /// Adds a key that failed, after the delay that its failures in a row have earned.
    pub fn add_rate_limited(&self, key: T) {
        let failures = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures - 1
        };
        self.add_after(key, self.backoff.delay(failures, rand::random::<f64>()));
    }

    /// Forgets the failures of a key.
    pub fn forget(&self, key: &T) {
        self.lock().failures.remove(key);
    }

    /// Failures in a row of a key.
    pub fn failures(&self, key: &T) -> u32 {
        self.lock().failures.get(key).copied().unwrap_or_default()
    }

    /// The next key to work on; none once the queue is closed and empty. The caller must call
    /// [`done`](Self::done) with it.
    pub async fn next(&self) -> Option<T> {
        loop {
            let changed = self.changed.notified();
            let wait = {
                let mut state = self.lock();
                let now = self.clock.monotonic();
                state.promote(now);
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.changed.notify_one();
                    }
                    return Some(key);
                }
                if state.closed {
                    self.changed.notify_one();
                    return None;
                }
                state.delayed.keys().next().map(|(at, _)| at.saturating_sub(now))
            };
            match wait {
                Some(wait) => {
                    tokio::select! {
                        () = changed => {}
                        () = self.clock.sleep(wait) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// The work on a key is over; if it was added meanwhile, it is ready again.
    pub fn done(&self, key: &T) {
        self.lock().done(key);
        self.changed.notify_one();
    }

    /// Lets [`next`](Self::next) end once all that is ready has been taken. Delayed keys are dropped.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.delayed.clear();
        state.due.clear();
        drop(state);
        self.changed.notify_one();
    }

    /// Keys that are ready.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether no key is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    fn add(&mut self, key: T) {
        if self.closed || !self.dirty.insert(key.clone()) {
            return;
        }
        if !self.processing.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: T, at: Duration) {
        if self.closed {
            return;
        }
        if let Some(known) = self.due.get(&key) {
            if known.0 <= at {
                return;
            }
            self.delayed.remove(known);
        }
        let slot = (at, self.next);
        self.next += 1;
        self.delayed.insert(slot, key.clone());
        self.due.insert(key, slot);
    }

    fn promote(&mut self, now: Duration) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.due.remove(&key);
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<T> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.processing.insert(key.clone());
        Some(key)
    }

    fn done(&mut self, key: &T) {
        if self.processing.remove(key) && self.dirty.contains(key) {
            self.ready.push_back(key.clone());
        }
    }
}
