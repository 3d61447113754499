//! Following the changes.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::model::{Change, Entry, Revision};
use crate::schema::Limits;
use crate::store::History;

/// Follows the changes of keys with a prefix. It holds a place in the history and no changes, so a slow reader
/// costs no memory; one that falls behind the compaction limit gets [`Error::Compacted`].
pub struct Watch {
    history: History,
    limits: watch::Receiver<Limits>,
    prefix: String,
    reached: Revision,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("prefix", &self.prefix)
            .field("reached", &self.reached)
            .finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn new(history: History, prefix: String, after: Revision) -> Self {
        let limits = history.changes.subscribe();
        Self {
            history,
            limits,
            prefix,
            reached: after,
        }
    }

    /// The revision up to which all changes have been delivered.
    pub fn reached(&self) -> Revision {
        self.reached
    }

    /// The next changes, oldest first, at least one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Compacted`] if changes are missing that the watch has not seen; [`Error::Closed`] if the store
    /// is closed. Both are final.
    pub async fn next(&mut self) -> Result<Vec<Arc<Change>>> {
        loop {
            let limits = *self.limits.borrow_and_update();
            if limits.latest <= self.reached {
                if limits.closed {
                    return Err(Error::Closed);
                }
                self.limits.changed().await.map_err(|_| Error::Closed)?;
                continue;
            }
            let (changes, reached) = match self.history.changes.after(self.reached) {
                Some(changes) => self.recent(changes),
                None => self.past(limits.latest).await?,
            };
            self.reached = reached;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    /// What the write with this revision wrote, as [`Store::at`](crate::Store::at).
    ///
    /// # Errors
    /// Only those of reading the file.
    pub async fn at(&self, revision: Revision) -> Result<Option<Entry>> {
        let reader = self.history.reader.clone();
        tokio::task::spawn_blocking(move || reader.at(revision))
            .await
            .map_err(|_| Error::Closed)?
    }

    fn recent(&self, mut changes: Vec<Arc<Change>>) -> (Vec<Arc<Change>>, Revision) {
        let reached = changes.last().map_or(self.reached, |c| c.revision);
        changes.retain(|c| c.key.starts_with(&self.prefix));
        (changes, reached)
    }

    async fn past(&self, latest: Revision) -> Result<(Vec<Arc<Change>>, Revision)> {
        let (reader, prefix, after) = (self.history.reader.clone(), self.prefix.clone(), self.reached);
        tokio::task::spawn_blocking(move || {
            let found = reader.history(&prefix, after, latest)?;
            // Asked for afterwards, because a compaction may have run meanwhile.
            reader.ensure_kept(after)?;
            Ok(found)
        })
        .await
        .map_err(|_| Error::Closed)?
    }
}
