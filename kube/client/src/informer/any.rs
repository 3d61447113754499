//! Objects of several kinds in memory, as JSON: for who looks at few fields of many kinds. One piece of code serves
//! every kind.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::{StreamExt, stream};
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::watch;

use super::cache::ObjectKey;
use super::stream::{self as follow, Change, WatchConfig};

/// A kind by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnyKind {
    /// API group; the core group is empty.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// `PersistentVolume`
    pub kind: &'static str,
    /// `persistentvolumes`
    pub plural: &'static str,
}

impl AnyKind {
    /// `v1` or `storage.k8s.io/v1`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The path of an object, or of all of them where the name is empty.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let mut path = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if !namespace.is_empty() {
            path = format!("{path}/namespaces/{namespace}");
        }
        path = format!("{path}/{}", self.plural);
        match name {
            "" => path,
            name => format!("{path}/{name}"),
        }
    }
}

/// Objects by kind, namespace and name, as the API has them.
pub type AnyObjects = BTreeMap<ObjectKey, Arc<Value>>;

/// Objects of several kinds, kept true by watches that end with the last handle. `managedFields` are dropped.
#[derive(Clone)]
pub struct AnyCache {
    shared: Arc<Shared>,
    _follower: Arc<Follower>,
}

struct Shared {
    objects: RwLock<BTreeMap<&'static str, AnyObjects>>,
    /// Counts changes; the first lists of all kinds are there from one on.
    changes: watch::Sender<u64>,
}

struct Follower(tokio::task::AbortHandle);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl AnyCache {
    /// Starts to follow these kinds, in all namespaces.
    pub fn start(client: &Client, kinds: &'static [AnyKind]) -> Self {
        let shared = Arc::new(Shared {
            objects: RwLock::default(),
            changes: watch::Sender::new(0),
        });
        let streams = kinds.iter().map(|kind| {
            let resource = ApiResource {
                group: kind.group.to_owned(),
                version: kind.version.to_owned(),
                api_version: kind.api_version(),
                kind: kind.kind.to_owned(),
                plural: kind.plural.to_owned(),
            };
            let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
            follow::watch(api, WatchConfig::default())
                .map(move |change| (kind, change))
                .boxed()
        });
        let mut changes = stream::select_all(streams);
        let own = shared.clone();
        let task = tokio::spawn(async move {
            while let Some((kind, change)) = changes.next().await {
                match change {
                    Ok(change) => own.apply(kind, change, kinds.len()),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(kind = kind.kind, error, "watch interrupted");
                    }
                }
            }
        });
        Self {
            shared,
            _follower: Arc::new(Follower(task.abort_handle())),
        }
    }

    /// Waits until the first lists are complete.
    pub async fn wait_synced(&self) {
        // The sender lives in `shared`, which lives in self.
        let _ = self.changes().wait_for(|changes| *changes > 0).await;
    }

    /// Tells of changes: they are counted. Zero until the first lists are complete.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// All objects of a kind.
    pub fn of(&self, kind: &AnyKind) -> AnyObjects {
        let objects = self.shared.objects.read();
        let objects = objects.unwrap_or_else(PoisonError::into_inner);
        objects.get(kind.plural).cloned().unwrap_or_default()
    }

    /// An object, if it is there.
    pub fn get(&self, kind: &AnyKind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let objects = self.shared.objects.read();
        let objects = objects.unwrap_or_else(PoisonError::into_inner);
        let key = ObjectKey::new(namespace, name);
        objects.get(kind.plural)?.get(&key).cloned()
    }
}

impl Shared {
    fn apply(&self, kind: &AnyKind, change: Change<DynamicObject>, kinds: usize) {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let own = objects.entry(kind.plural).or_default();
        match change {
            Change::Restarted(all) => {
                *own = all.into_iter().map(|object| value(kind, object)).collect();
            }
            Change::Applied(object) => own.extend([value(kind, object)]),
            Change::Deleted(object) => {
                own.remove(&ObjectKey::of(&object));
            }
        }
        let complete = objects.len() == kinds;
        drop(objects);
        if complete {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }
}

fn value(kind: &AnyKind, mut object: DynamicObject) -> (ObjectKey, Arc<Value>) {
    object.metadata.managed_fields = None;
    let key = ObjectKey::of(&object);
    object.types = Some(kube::api::TypeMeta {
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
    });
    // Metadata and JSON are always JSON.
    let value = serde_json::to_value(object).unwrap_or_default();
    (key, Arc::new(value))
}
