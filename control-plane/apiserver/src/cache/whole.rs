//! All tables, and the task that keeps them up to date.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use knode_kinds::{Kind, Storage};
use knode_store::{Change, Range, Revision, Store};
use tokio::sync::watch;

use super::filter::canonical;
use super::{Object, Table};

/// Where objects are kept in the store.
pub(crate) const ROOT: &str = "/registry/";
/// Objects read from the store at a time when the server starts.
const LOAD_PAGE: usize = 256;

/// The store's key of an object.
pub(crate) fn storage_key(storage: &str, key: &str) -> String {
    format!("{ROOT}{storage}/{key}")
}

pub(crate) struct Cache {
    tables: HashMap<&'static str, Arc<Table>>,
    progress: watch::Sender<Revision>,
}

impl Cache {
    /// Reads everything from the store, then follows it until it closes.
    pub async fn start(store: &Store) -> Result<Arc<Self>, knode_store::Error> {
        let cache = Arc::new(Self::empty());
        let start = cache.load(store).await?;
        let watch = store.watch(ROOT, start);
        tokio::spawn(cache.clone().follow(watch));
        Ok(cache)
    }

    fn empty() -> Self {
        let stored = knode_kinds::kinds().iter().filter_map(|kind| match kind.storage {
            Storage::Stored(name) => Some((name, Arc::new(Table::new(canonical(kind))))),
            Storage::Virtual => None,
        });
        Self {
            tables: stored.collect(),
            progress: watch::Sender::new(0),
        }
    }

    async fn load(&self, store: &Store) -> Result<Revision, knode_store::Error> {
        let start = store.revision();
        let mut range = Range {
            prefix: ROOT.into(),
            limit: LOAD_PAGE,
            revision: Some(start),
            after: None,
        };
        loop {
            let page = store.range(range.clone()).await?;
            for entry in &page.entries {
                if let Some((table, key)) = self.table_of(&entry.key) {
                    match Object::new(table.kind, key, entry.revision, entry.value.clone()) {
                        Ok(object) => table.load(object, start),
                        Err(error) => {
                            tracing::error!(key = entry.key, %error, "an object in the store is unreadable")
                        }
                    }
                }
            }
            match page.entries.last() {
                Some(last) if page.more => range.after = Some(last.key.clone()),
                _ => break,
            }
        }
        self.tables.values().for_each(|table| table.begin(start));
        self.progress.send_replace(start);
        Ok(start)
    }

    async fn follow(self: Arc<Self>, mut watch: knode_store::Watch) {
        loop {
            match watch.next().await {
                Ok(changes) => {
                    for change in &changes {
                        self.apply(change, &watch).await;
                    }
                    self.progress.send_replace(watch.reached());
                }
                Err(knode_store::Error::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "the cache has lost the store");
                    return;
                }
            }
        }
    }

    async fn apply(&self, change: &Change, store: &knode_store::Watch) {
        let Some((table, key)) = self.table_of(&change.key) else {
            return;
        };
        let before = match change.previous {
            Some(revision) if table.is_indexed() => written(table, key, revision, store).await,
            _ => None,
        };
        match &change.value {
            None => table.delete(key, change.revision, before),
            Some(value) => match Object::new(table.kind, key, change.revision, value.clone()) {
                Ok(object) => table.put(object, before),
                Err(error) => {
                    tracing::error!(key = change.key, %error, "an object in the store is unreadable")
                }
            },
        }
    }

    /// Splits a key of the store. A storage name may have a slash in it, as services/specs has.
    fn table_of<'a>(&self, key: &'a str) -> Option<(&Arc<Table>, &'a str)> {
        let rest = key.strip_prefix(ROOT)?;
        rest.match_indices('/').find_map(|(at, _)| {
            let table = self.tables.get(&rest[..at])?;
            Some((table, &rest[at + 1..]))
        })
    }

    /// The table of a kind that is stored.
    pub fn table(&self, kind: &Kind) -> Option<&Arc<Table>> {
        match kind.storage {
            Storage::Stored(name) => self.tables.get(name),
            Storage::Virtual => None,
        }
    }

    /// Keys in the store and revisions of objects that are expired.
    pub fn expired(&self, now: Timestamp) -> Vec<(String, Revision)> {
        let tables = self.tables.iter();
        let expired = tables.flat_map(|(name, table)| {
            let expired = table.expired(now).into_iter();
            expired.map(|(key, revision)| (storage_key(name, &key), revision))
        });
        expired.collect()
    }

    /// How many objects there are below each storage name.
    pub fn counts(&self) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<_> = self
            .tables
            .iter()
            .map(|(name, table)| (*name, table.len()))
            .collect();
        counts.sort_unstable();
        counts
    }

    /// Everything up to this revision is in the tables.
    pub fn progress(&self) -> Revision {
        *self.progress.borrow()
    }

    /// Waits until everything up to a revision is in the tables; false if that takes too long.
    pub async fn reach(&self, revision: Revision, patience: Duration) -> bool {
        if self.progress() >= revision {
            return true;
        }
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| *progress >= revision);
        matches!(tokio::time::timeout(patience, reached).await, Ok(Ok(_)))
    }
}

/// The state of an object at a revision, which is one of the last changes or in the store.
async fn written(
    table: &Table,
    key: &str,
    revision: Revision,
    store: &knode_store::Watch,
) -> Option<Arc<Object>> {
    if let Some(object) = table.recent(key, revision) {
        return Some(object);
    }
    match store.at(revision).await {
        Ok(entry) => Object::new(table.kind, key, revision, entry?.value)
            .ok()
            .map(Arc::new),
        Err(error) => {
            tracing::error!(key, %error, "what an object was before is unreadable");
            None
        }
    }
}
