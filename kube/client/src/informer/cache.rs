//! Objects in memory, kept true by a watch.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures::StreamExt;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::stream::{self, Change, WatchConfig};

/// Namespace (empty for cluster-wide objects) and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// A key.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// One object's change, as subscribers get it.
#[derive(Debug)]
pub enum Delta<K> {
    /// Created (without `old`) or changed.
    Applied {
        /// The state before.
        old: Option<Arc<K>>,
        /// The state now.
        new: Arc<K>,
    },
    /// Deleted; its last state.
    Deleted(Arc<K>),
}

impl<K> Clone for Delta<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Applied { old, new } => Self::Applied {
                old: old.clone(),
                new: new.clone(),
            },
            Self::Deleted(object) => Self::Deleted(object.clone()),
        }
    }
}

impl<K: Resource> Delta<K> {
    /// The object: its new state, or its last one.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted(object) => object,
        }
    }

    /// The object's key.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::of(self.object().as_ref())
    }
}

/// Deltas in order, from the subscription on; begins with every object that is there.
pub type Subscription<K> = mpsc::UnboundedReceiver<Delta<K>>;

/// Objects by namespace and name, kept true by a watch that ends with the last handle. `managedFields` are dropped.
pub struct Cache<K> {
    shared: Arc<Shared<K>>,
    _follower: Arc<Follower>,
}

struct Follower(tokio::task::AbortHandle);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared<K> {
    state: RwLock<State<K>>,
    synced: watch::Sender<bool>,
}

struct State<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    subscribers: Vec<mpsc::UnboundedSender<Delta<K>>>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            _follower: self._follower.clone(),
        }
    }
}

impl<K> Debug for Cache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("objects", &self.shared.read().objects.len())
            .finish_non_exhaustive()
    }
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Starts to follow the objects in a task of its own.
    pub fn start(api: Api<K>, config: WatchConfig) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            subscribers: Vec::new(),
        };
        let shared = Arc::new(Shared {
            state: RwLock::new(state),
            synced: watch::Sender::new(false),
        });
        let task = tokio::spawn(follow(api, config, shared.clone()));
        Self {
            shared,
            _follower: Arc::new(Follower(task.abort_handle())),
        }
    }

    /// Waits until the first list is complete.
    pub async fn wait_synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // The sender lives in `shared`, which lives in self.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// The object, if it is there.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get_key(&ObjectKey::new(namespace, name))
    }

    /// The object, if it is there.
    pub fn get_key(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.shared.read().objects.get(key).cloned()
    }

    /// All objects, by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.read().objects.values().cloned().collect()
    }

    /// All objects of a namespace, by name.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = ObjectKey::new(namespace, "");
        let state = self.shared.read();
        let range = state
            .objects
            .range(from..)
            .take_while(|(key, _)| key.namespace == namespace);
        range.map(|(_, object)| object.clone()).collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.shared.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Deltas from now on, after one for each object that is there already.
    pub fn subscribe(&self) -> Subscription<K> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.shared.write();
        for object in state.objects.values() {
            // The receiver is still here.
            let _ = sender.send(Delta::Applied {
                old: None,
                new: object.clone(),
            });
        }
        state.subscribers.push(sender);
        receiver
    }
}

impl<K> Shared<K> {
    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow<K>(api: Api<K>, config: WatchConfig, shared: Arc<Shared<K>>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut changes = stream::watch(api, config);
    while let Some(change) = changes.next().await {
        match change {
            Ok(change) => shared.apply(change),
            Err(error) => {
                let kind = K::kind(&());
                tracing::warn!(%kind, error = &error as &dyn std::error::Error, "watch interrupted");
            }
        }
    }
}

impl<K: Resource<DynamicType = ()>> Shared<K> {
    fn apply(&self, change: Change<K>) {
        let restarted = matches!(change, Change::Restarted(_));
        let mut state = self.write();
        match change {
            Change::Restarted(objects) => state.replace(objects),
            Change::Applied(object) => state.insert(object),
            Change::Deleted(object) => {
                state.objects.remove(&ObjectKey::of(&object));
                state.notify(Delta::Deleted(Arc::new(object)));
            }
        }
        drop(state);
        if restarted {
            self.synced.send_replace(true);
        }
    }
}

impl<K: Resource<DynamicType = ()>> State<K> {
    fn insert(&mut self, mut object: K) {
        object.meta_mut().managed_fields = None;
        let new = Arc::new(object);
        let old = self.objects.insert(ObjectKey::of(new.as_ref()), new.clone());
        self.notify(Delta::Applied { old, new });
    }

    fn replace(&mut self, objects: Vec<K>) {
        let mut before: HashMap<ObjectKey, Arc<K>> = std::mem::take(&mut self.objects).into_iter().collect();
        for object in objects {
            let key = ObjectKey::of(&object);
            match before.remove(&key) {
                Some(old) if same_version(old.as_ref(), &object) => {
                    self.objects.insert(key, old);
                }
                Some(old) => {
                    self.objects.insert(key, old);
                    self.insert(object);
                }
                None => self.insert(object),
            }
        }
        for (_, gone) in before {
            self.notify(Delta::Deleted(gone));
        }
    }

    fn notify(&mut self, delta: Delta<K>) {
        // A subscriber that has gone away is forgotten.
        self.subscribers
            .retain(|subscriber| subscriber.send(delta.clone()).is_ok());
    }
}

fn same_version<K: Resource>(one: &K, other: &K) -> bool {
    let (one, other) = (one.meta(), other.meta());
    one.uid == other.uid && one.resource_version.is_some() && one.resource_version == other.resource_version
}
