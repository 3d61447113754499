//! The objects of one storage name and their last changes.
//!
//! Kinds whose objects expire have an index only: their objects are read from the store.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use knode_kinds::Kind;
use knode_store::Revision;
use tokio::sync::watch;

use super::index::Index;
use super::{Filter, Object};

/// At most this many changes stay in memory; who is further behind reads the store's history.
const MAX_EVENTS: usize = 256;
/// At most this many bytes of objects are kept for changes alone.
const MAX_BYTES: usize = 128 << 10;

/// A change of one object.
#[derive(Debug)]
pub(crate) struct Event {
    pub revision: Revision,
    /// The new state; for a deletion the last one, with the deletion's revision.
    pub object: Arc<Object>,
    pub previous: Option<Arc<Object>>,
    pub deleted: bool,
}

/// Changes that a watcher has not seen.
pub(crate) enum Past {
    /// All of them.
    Events(Vec<Arc<Event>>),
    /// Memory doesn't reach back: they are in the store, up to this revision.
    Stored { upto: Revision },
}

pub(crate) struct Table {
    /// The kind in whose form objects are kept.
    pub kind: &'static Kind,
    state: RwLock<State>,
    changed: watch::Sender<Revision>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Box<str>, Arc<Object>>,
    /// Instead of `objects`.
    index: Option<Index>,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Changes up to here are not in `events`.
    forgotten: Revision,
}

impl Table {
    pub fn new(kind: &'static Kind) -> Self {
        let state = State {
            index: kind.strategy.expiry().map(|_| Index::default()),
            ..State::default()
        };
        Self {
            kind,
            state: RwLock::new(state),
            changed: watch::Sender::new(0),
        }
    }

    /// Whether objects are in the store alone: nothing that gives objects finds any then, but for the last changes.
    pub fn is_indexed(&self) -> bool {
        self.kind.strategy.expiry().is_some()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // Each change of the state is one that a panic can't cut in two.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        // See `read`.
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.read().objects.get(key).cloned()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        let state = self.read();
        state.index.as_ref().map_or(state.objects.len(), Index::len)
    }

    /// How many keys with a prefix come after one of them.
    pub fn count_after(&self, prefix: &str, last: &str) -> usize {
        let state = self.read();
        if let Some(index) = &state.index {
            return index.count_after(prefix, last);
        }
        let after = (Bound::Excluded(last), Bound::Unbounded);
        let range = state.objects.range::<str, _>(after);
        range.take_while(|(key, _)| key.starts_with(prefix)).count()
    }

    /// Keys and revisions of objects that are expired.
    pub fn expired(&self, now: Timestamp) -> Vec<(Box<str>, Revision)> {
        let state = self.read();
        state
            .index
            .as_ref()
            .map(|index| index.expired(now))
            .unwrap_or_default()
    }

    /// The state of an object at a revision, if it is among the last changes.
    pub fn recent(&self, key: &str, revision: Revision) -> Option<Arc<Object>> {
        let state = self.read();
        let mut written = state.events.iter().rev().filter(|event| !event.deleted);
        let found = written.find(|event| event.revision == revision)?;
        (*found.object.key == *key).then(|| found.object.clone())
    }

    /// Objects that match, from a key on, at most `limit`.
    pub fn list_from(&self, filter: &Filter, start: Option<&str>, limit: usize) -> Vec<Arc<Object>> {
        let prefix = filter.prefix();
        let start: Box<str> = start.map_or_else(|| prefix.as_str().into(), Into::into);
        let state = self.read();
        let range = state
            .objects
            .range(start..)
            .take_while(|(key, _)| key.starts_with(&prefix));
        range
            .map(|(_, object)| object)
            .filter(|object| filter.matches(object))
            .take(limit)
            .cloned()
            .collect()
    }

    /// All objects in a namespace, or all.
    pub fn all(&self, namespace: &str) -> Vec<Arc<Object>> {
        let prefix = if namespace.is_empty() {
            String::new()
        } else {
            format!("{namespace}/")
        };
        let state = self.read();
        let range = state
            .objects
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        range
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Bytes that an index and the last changes hold, about.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let state = self.read();
        state.index.as_ref().map_or(0, Index::bytes) + state.bytes
    }

    /// Revision of the last change.
    pub fn latest(&self) -> Revision {
        *self.changed.borrow()
    }

    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.changed.subscribe()
    }

    /// Changes after a revision.
    pub fn after(&self, revision: Revision) -> Past {
        let state = self.read();
        if revision < state.forgotten {
            let upto = state
                .events
                .back()
                .map_or(state.forgotten, |event| event.revision);
            return Past::Stored { upto };
        }
        let skip = state.events.partition_point(|event| event.revision <= revision);
        Past::Events(state.events.iter().skip(skip).cloned().collect())
    }

    /// Objects that match together with the revision at which they are so, for a watch that begins with them.
    pub fn snapshot(&self, filter: &Filter, progress: impl Fn() -> Revision) -> (Vec<Arc<Object>>, Revision) {
        let prefix = filter.prefix();
        let state = self.read();
        // Read under the lock: changes up to here are in the state, because they are applied before it moves.
        let revision = progress().max(self.latest());
        let range = state
            .objects
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        let objects = range
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, object)| object)
            .filter(|object| filter.matches(object));
        (objects.cloned().collect(), revision)
    }

    /// Takes in an object that was there before the server began, at or before `start`.
    pub fn load(&self, object: Object, start: Revision) {
        let mut state = self.write();
        state.forgotten = start;
        match state.index.as_mut() {
            Some(index) => index.put(&object.key, object.revision, self.expiry(&object)),
            None => drop(state.objects.insert(object.key.clone(), Arc::new(object))),
        }
    }

    fn expiry(&self, object: &Object) -> Option<Timestamp> {
        self.kind
            .strategy
            .expiry()
            .and_then(|expiry| expiry(&object.value()))
    }

    /// Says from where on changes are known.
    pub fn begin(&self, start: Revision) {
        self.write().forgotten = start;
        self.changed.send_replace(start);
    }

    /// Takes in a write. An index must be told the state `before`, which others know.
    pub fn put(&self, object: Object, before: Option<Arc<Object>>) {
        let revision = object.revision;
        let expiry = self.expiry(&object);
        let object = Arc::new(object);
        let mut state = self.write();
        let previous = match state.index.as_mut() {
            Some(index) => {
                index.put(&object.key, revision, expiry);
                before
            }
            None => state.objects.insert(object.key.clone(), object.clone()),
        };
        state.push(Event {
            revision,
            object,
            previous,
            deleted: false,
        });
        self.changed.send_replace(revision);
    }

    /// Takes in a deletion. An index must be told the state `before`, which others know.
    pub fn delete(&self, key: &str, revision: Revision, before: Option<Arc<Object>>) {
        let mut state = self.write();
        let (previous, known) = match state.index.as_mut() {
            Some(index) => (before, index.remove(key)),
            None => (state.objects.remove(key), false),
        };
        let Some(previous) = previous else {
            if known {
                // What is not known here is for the store to tell.
                state.forget(revision);
                self.changed.send_replace(revision);
            }
            return;
        };
        let object = Arc::new(previous.restamped(revision));
        state.push(Event {
            revision,
            object,
            previous: Some(previous),
            deleted: true,
        });
        self.changed.send_replace(revision);
    }
}

impl State {
    /// Changes up to here are not in memory any more.
    fn forget(&mut self, revision: Revision) {
        self.events.clear();
        self.bytes = 0;
        self.forgotten = revision;
    }

    fn push(&mut self, event: Event) {
        let indexed = self.index.is_some();
        self.bytes += event.kept(indexed);
        self.events.push_back(Arc::new(event));
        while self.events.len() > 1 && (self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES) {
            if let Some(old) = self.events.pop_front() {
                self.bytes -= old.kept(indexed);
                self.forgotten = old.revision;
            }
        }
    }
}

impl Event {
    /// Bytes that are kept for the event: an index has no objects that it could share.
    fn kept(&self, indexed: bool) -> usize {
        let own = if indexed { self.object.json.len() } else { 0 };
        self.previous.as_ref().map_or(0, |object| object.json.len()) + own + 256
    }
}
