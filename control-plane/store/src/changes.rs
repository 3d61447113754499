//! The last changes, in memory, for those who watch.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::model::{Change, Revision};
use crate::schema::Limits;

/// At most this many changes stay in memory.
const MAX_CHANGES: usize = 256;
/// At most this many bytes of changes stay in memory, but always the last change.
const MAX_BYTES: usize = 256 << 10;

/// The end of the history. Watches that stand before it read the file.
pub(crate) struct Changes {
    recent: Mutex<Recent>,
    limits: watch::Sender<Limits>,
}

#[derive(Default)]
struct Recent {
    /// Consecutive revisions, the last one being the store's latest.
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
}

impl Changes {
    pub fn new(limits: Limits) -> Self {
        Self {
            recent: Mutex::default(),
            limits: watch::Sender::new(limits),
        }
    }

    pub fn limits(&self) -> Limits {
        *self.limits.borrow()
    }

    pub fn subscribe(&self) -> watch::Receiver<Limits> {
        self.limits.subscribe()
    }

    /// Takes committed changes in and wakes those who wait.
    pub fn publish(&self, changes: Vec<Arc<Change>>) {
        let Some(latest) = changes.last().map(|c| c.revision) else {
            return;
        };
        self.lock().extend(changes);
        self.limits.send_modify(|limits| limits.latest = latest);
    }

    /// Moves the compaction limit.
    pub fn compacted(&self, oldest: Revision) {
        self.limits.send_modify(|limits| limits.oldest = oldest);
    }

    /// Tells those who wait that nothing comes any more.
    pub fn close(&self) {
        self.limits.send_modify(|limits| limits.closed = true);
    }

    /// The changes after a revision, as many as memory has; `None` if it doesn't reach back that far.
    pub fn after(&self, revision: Revision) -> Option<Vec<Arc<Change>>> {
        self.lock().after(revision)
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        // A panic can't leave the list half changed in a way that matters: each step keeps it consecutive.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn extend(&mut self, changes: Vec<Arc<Change>>) {
        self.bytes += changes.iter().map(|c| c.size()).sum::<usize>();
        self.changes.extend(changes);
        while self.changes.len() > 1 && (self.changes.len() > MAX_CHANGES || self.bytes > MAX_BYTES) {
            self.bytes -= self.changes.pop_front().map_or(0, |c| c.size());
        }
    }

    fn after(&self, revision: Revision) -> Option<Vec<Arc<Change>>> {
        let first = self.changes.front()?.revision;
        let skip = usize::try_from((revision + 1).checked_sub(first)?).ok()?;
        Some(self.changes.iter().skip(skip).cloned().collect())
    }
}
