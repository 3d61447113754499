//! Which requests an event comes to: the aggregation of client-go's `events_cache.go`, pure.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource as V1Source, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

/// Entries kept for each of the tables.
const CAPACITY: usize = 4096;
/// Similar events in an interval before they are combined.
const MAX_SIMILAR: usize = 10;
const INTERVAL: SignedDuration = SignedDuration::from_secs(600);
/// Events of one object that may come at once, and how often one more is allowed.
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

/// Who reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventSource {
    /// Component, such as `kubelet`.
    pub component: String,
    /// Its machine.
    pub host: String,
}

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// As it should be.
    Normal,
    /// Something to look at.
    Warning,
}

impl EventKind {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// A request to make.
#[derive(Clone, Debug, PartialEq)]
pub enum EventAction {
    /// Create this event.
    Create(Box<Event>),
    /// Patch (strategic merge) the event of this name; if it is gone, create the event instead.
    Patch {
        /// Name of the event.
        name: String,
        /// The patch.
        patch: Value,
        /// What to create if there is nothing to patch.
        event: Box<Event>,
    },
    /// Too many events of this object.
    Drop,
}

/// Everything that makes two events the same, as one number: thousands of them are remembered.
type Key = u128;

struct Seen {
    name: Box<str>,
    count: i32,
    first: Timestamp,
}

struct Similar {
    /// Different messages, each as a number.
    messages: Vec<u64>,
    last: Timestamp,
}

struct Bucket {
    tokens: f64,
    updated: Timestamp,
}

/// Remembers what has been reported.
pub struct Correlator {
    source: EventSource,
    seen: Table<Seen>,
    similar: Table<Similar>,
    buckets: Table<Bucket>,
    /// Unlike in every other process, so that nobody can make two objects alike.
    keys: [RandomState; 2],
}

impl Correlator {
    /// A correlator for one source.
    pub fn new(source: EventSource) -> Self {
        Self {
            source,
            seen: Table::new(),
            similar: Table::new(),
            buckets: Table::new(),
            keys: [RandomState::new(), RandomState::new()],
        }
    }

    /// What to do about an event at `now`.
    pub fn observe(
        &mut self,
        object: &ObjectReference,
        kind: EventKind,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> EventAction {
        let (key, message) = self.aggregate(object, kind, reason, message, now);
        let known = self.seen.get_mut(key).map(|seen| {
            seen.count += 1;
            (seen.name.to_string(), seen.count, seen.first)
        });
        let (name, count, first) = match known {
            Some(known) => known,
            None => {
                let name = format!(
                    "{}.{:x}",
                    object.name.as_deref().unwrap_or_default(),
                    now.as_nanosecond()
                );
                self.seen.insert(
                    key,
                    Seen {
                        name: name.as_str().into(),
                        count: 1,
                        first: now,
                    },
                );
                (name, 1, now)
            }
        };
        if !self.allowed(object, now) {
            return EventAction::Drop;
        }
        let event = Box::new(self.event(object, kind, reason, &message, (&name, count), (first, now)));
        if count == 1 {
            return EventAction::Create(event);
        }
        let patch =
            json!({"count": count, "lastTimestamp": whole_seconds(now).to_string(), "message": message});
        EventAction::Patch { name, patch, event }
    }

    /// The key under which the event is counted: its own, or that of all similar ones once they are many.
    fn aggregate(
        &mut self,
        object: &ObjectReference,
        kind: EventKind,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> (Key, String) {
        let group = self.key(&(identity(object), kind, reason));
        let own = self.key(&(identity(object), kind, reason, message));
        let text = self.keys[0].hash_one(message);
        let similar = self.similar.get_or_insert_with(group, || Similar {
            messages: Vec::new(),
            last: now,
        });
        if now.duration_since(similar.last) > INTERVAL {
            similar.messages.clear();
        }
        similar.last = now;
        if similar.messages.len() < MAX_SIMILAR && !similar.messages.contains(&text) {
            similar.messages.push(text);
        }
        if similar.messages.len() < MAX_SIMILAR {
            return (own, message.to_owned());
        }
        (group, format!("(combined from similar events): {message}"))
    }

    fn key(&self, what: &impl Hash) -> Key {
        let [high, low] = &self.keys;
        (u128::from(high.hash_one(what)) << 64) | u128::from(low.hash_one(what))
    }

    fn allowed(&mut self, object: &ObjectReference, now: Timestamp) -> bool {
        let key = self.key(&identity(object));
        let bucket = self.buckets.get_or_insert_with(key, || Bucket {
            tokens: BURST,
            updated: now,
        });
        let elapsed = now.duration_since(bucket.updated).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + elapsed * REFILL_PER_SECOND).min(BURST);
        bucket.updated = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    fn event(
        &self,
        object: &ObjectReference,
        kind: EventKind,
        reason: &str,
        message: &str,
        (name, count): (&str, i32),
        (first, last): (Timestamp, Timestamp),
    ) -> Event {
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: object.clone(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            source: Some(V1Source {
                component: Some(self.source.component.clone()),
                host: Some(self.source.host.clone()),
            }),
            first_timestamp: Some(Time(whole_seconds(first))),
            last_timestamp: Some(Time(whole_seconds(last))),
            count: Some(count),
            type_: Some(kind.name().to_owned()),
            reporting_component: Some(self.source.component.clone()),
            reporting_instance: Some(self.source.host.clone()),
            ..Event::default()
        }
    }
}

fn identity(object: &ObjectReference) -> [Option<&str>; 6] {
    [
        &object.kind,
        &object.namespace,
        &object.name,
        &object.uid,
        &object.api_version,
        &object.field_path,
    ]
    .map(Option::as_deref)
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// A map that forgets its oldest entries.
struct Table<V> {
    entries: HashMap<Key, V>,
    order: VecDeque<Key>,
}

impl<V> Table<V> {
    fn new() -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    fn get_mut(&mut self, key: Key) -> Option<&mut V> {
        self.entries.get_mut(&key)
    }

    fn insert(&mut self, key: Key, value: V) {
        if self.entries.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > CAPACITY {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    fn get_or_insert_with(&mut self, key: Key, value: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(&key) {
            self.insert(key, value());
        }
        self.entries
            .get_mut(&key)
            .expect("inserted above and younger than what is forgotten")
    }
}
