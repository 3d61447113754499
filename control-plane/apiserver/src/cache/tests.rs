//! Objects that expire are read from the store; all else is as with those in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use knode_store::{Expect, Range, Revision, Store};
use serde_json::{Value, json};

use super::{Cache, Event, Past, Stamp, Table, storage_key};

const PATIENCE: Duration = Duration::from_secs(60);

/// A file that goes away with the value.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("knode-cache-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    async fn open(&self) -> (Store, Arc<Cache>) {
        let store = Store::open(self.0.join("state.db")).await.unwrap();
        let cache = Cache::start(&store).await.unwrap();
        (store, cache)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory left behind does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn events(cache: &Cache) -> Arc<Table> {
    let kind = knode_kinds::find("", "v1", "events").unwrap();
    cache.table(kind).unwrap().clone()
}

/// An event that was seen last at this second.
fn event(key: &str, second: i64, count: usize) -> Value {
    let (namespace, name) = key.split_once('/').unwrap();
    json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"kind": "Pod", "namespace": namespace, "name": "p"}, "reason": "Started",
        "message": "Started container of a pod ".repeat(20), "count": count,
        "lastTimestamp": Timestamp::from_second(second).unwrap().to_string()})
}

/// Numbers without an order that stay the same (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What was written: revision and second by key, and every change as (revision, key, deleted, previous).
#[derive(Default)]
struct Model {
    live: BTreeMap<String, (Revision, i64)>,
    changes: Vec<(Revision, String, bool, Option<Revision>)>,
}

impl Model {
    async fn write(&mut self, store: &Store, numbers: &mut Numbers) {
        let key = format!("ns{}/event-{}", numbers.below(2), numbers.below(60));
        let at = storage_key("events", &key);
        let known = self.live.get(&key).map(|(revision, _)| *revision);
        let deletes = known.is_some() && numbers.below(3) == 0;
        let revision = if deletes {
            self.live.remove(&key);
            store.delete(at, Expect::Any).await.unwrap().revision
        } else {
            let second = 1_700_000_000 + i64::try_from(numbers.below(7200)).unwrap();
            let mut value = event(&key, second, self.changes.len());
            let change = store.put(at, Stamp::new(&mut value), Expect::Any).await.unwrap();
            self.live.insert(key.clone(), (change.revision, second));
            change.revision
        };
        self.changes.push((revision, key, deletes, known));
    }

    /// The table knows of everything that is there, and holds next to nothing of it.
    async fn compare(&self, store: &Store, cache: &Cache) {
        assert!(cache.reach(store.revision(), PATIENCE).await);
        let table = events(cache);
        assert_eq!(table.len(), self.live.len());
        let inside = |key: &&String| key.starts_with("ns1/") && key.as_str() > "ns1/event-3";
        assert_eq!(
            table.count_after("ns1/", "ns1/event-3"),
            self.live.keys().filter(inside).count()
        );
        let now = 1_700_000_000 + 3600 + 3600;
        let old = self.live.iter().filter(|(_, (_, second))| second + 3600 < now);
        let old: Vec<_> = old
            .map(|(key, (revision, _))| (storage_key("events", key), *revision))
            .collect();
        assert_eq!(cache.expired(Timestamp::from_second(now).unwrap()), old);
        let range = Range {
            prefix: storage_key("events", ""),
            ..Range::default()
        };
        let stored = store.range(range).await.unwrap().entries;
        let stored: Vec<_> = stored
            .into_iter()
            .map(|entry| (entry.key, entry.revision))
            .collect();
        let live = self.live.iter();
        let live: Vec<_> = live
            .map(|(key, (revision, _))| (storage_key("events", key), *revision))
            .collect();
        assert_eq!(stored, live);
    }

    /// The last changes that the table has are those that were made, with what was before.
    fn compare_changes(&self, table: &Table, after: Revision) {
        let Past::Events(events) = table.after(after) else {
            panic!("the changes after {after} are forgotten");
        };
        let told = events.iter().map(|event| {
            let previous = event.previous.as_ref();
            assert!(previous.is_none_or(|previous| previous.key == event.object.key));
            assert_eq!(
                event.object.value()["metadata"]["resourceVersion"],
                event.revision.to_string()
            );
            let previous = previous.map(|previous| previous.revision);
            (
                event.revision,
                event.object.key.to_string(),
                event.deleted,
                previous,
            )
        });
        let made = self.changes.iter().filter(|(revision, ..)| *revision > after);
        assert_eq!(told.collect::<Vec<_>>(), made.cloned().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_index_knows_what_the_store_has_through_churn_and_restarts() {
    let scratch = Scratch::new("churn");
    let (mut store, mut cache) = scratch.open().await;
    let (mut model, mut numbers) = (Model::default(), Numbers(0x9E37_79B9_7F4A_7C15));
    for round in 0..12 {
        let before = store.revision();
        for _ in 0..25 {
            model.write(&store, &mut numbers).await;
        }
        model.compare(&store, &cache).await;
        model.compare_changes(&events(&cache), before);
        if round % 3 == 2 {
            // What is forgotten is what nobody can see.
            store.compact(store.revision()).await.unwrap();
            model.compare(&store, &cache).await;
            store.close().await;
            (store, cache) = scratch.open().await;
            model.compare(&store, &cache).await;
        }
    }
}

#[tokio::test]
async fn events_hold_no_more_memory_than_the_last_of_them() {
    let scratch = Scratch::new("memory");
    let (store, cache) = scratch.open().await;
    let mut bodies = 0;
    let mut writes = Vec::new();
    for number in 0..1500 {
        let key = format!(
            "default/web-7d4b9c6f5d-{:05x}.17f3a2b4c5d6e{number:03x}",
            number / 5
        );
        let mut value = event(&key, 1_700_000_000, number);
        bodies += value.to_string().len();
        writes.push(store.put(
            storage_key("events", &key),
            Stamp::new(&mut value),
            Expect::Absent,
        ));
    }
    futures::future::try_join_all(writes).await.unwrap();
    assert!(cache.reach(store.revision(), PATIENCE).await);
    let table = events(&cache);
    assert_eq!(table.len(), 1500);
    // The last changes are there for watches, within their bounds.
    let kept = |event: &Arc<Event>| event.object.json.len();
    let from = store.revision() - 50;
    let Past::Events(last) = table.after(from) else {
        panic!("the last changes are forgotten");
    };
    assert_eq!(last.len(), 50);
    assert!(last.iter().map(kept).sum::<usize>() < 128 << 10);
    assert!(
        matches!(table.after(0), Past::Stored { .. }),
        "everything is in memory"
    );
    let held = table.bytes();
    assert!(held < (128 << 10) + 1500 * 128 + 4096, "{held} bytes");
    assert!(bodies > 4 * held, "{held} bytes of {bodies}");
    store.close().await;
}
