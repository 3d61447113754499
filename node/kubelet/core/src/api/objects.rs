//! Config maps and secrets that pods of this node refer to, each watched by its name: the node's identity
//! may read no others (upstream: `pkg/kubelet/util/manager/watch_based_manager.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use knode_client::{Api, Cache, Client, WatchConfig};
use knode_volumes::{ObjectError, references};
use kube::Resource;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::client::text;
use crate::pod::PodExt;

type Key = (String, String);

/// Caches of one kind and who refers to them.
struct Caches<K> {
    held: BTreeMap<Key, Held<K>>,
}

struct Held<K> {
    cache: Cache<K>,
    users: Arc<Mutex<BTreeSet<String>>>,
}

/// All referenced objects.
pub(super) struct Watched {
    client: Client,
    config_maps: Mutex<Caches<ConfigMap>>,
    secrets: Mutex<Caches<Secret>>,
    changes: mpsc::UnboundedSender<String>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
}

impl Watched {
    pub(super) fn new(client: Client) -> Self {
        let (changes, receiver) = mpsc::unbounded_channel();
        Self {
            client,
            config_maps: Mutex::new(Caches {
                held: BTreeMap::new(),
            }),
            secrets: Mutex::new(Caches {
                held: BTreeMap::new(),
            }),
            changes,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// Uids of pods whose objects change. The first caller gets them.
    pub(super) fn changes(&self) -> BoxStream<'static, String> {
        match lock(&self.receiver).take() {
            Some(receiver) => tokio_stream(receiver),
            None => futures::stream::pending().boxed(),
        }
    }

    pub(super) fn register(&self, pod: &Pod) {
        let found = references(pod);
        let (namespace, uid) = (pod.ns(), pod.uid());
        let mut maps = lock(&self.config_maps);
        for name in found.config_maps {
            maps.add(&self.client, namespace, &name, uid, &self.changes);
        }
        let mut secrets = lock(&self.secrets);
        for name in found.secrets {
            secrets.add(&self.client, namespace, &name, uid, &self.changes);
        }
    }

    pub(super) fn unregister(&self, uid: &str) {
        lock(&self.config_maps).remove(uid);
        lock(&self.secrets).remove(uid);
    }

    pub(super) async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<ConfigMap>>, ObjectError> {
        let cache = lock(&self.config_maps).get(namespace, name);
        self.read(cache, namespace, name).await
    }

    pub(super) async fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Secret>>, ObjectError> {
        let cache = lock(&self.secrets).get(namespace, name);
        self.read(cache, namespace, name).await
    }

    /// From the cache once it is complete; before that, and for what nobody watches, from the API.
    async fn read<K>(
        &self,
        cache: Option<Cache<K>>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<K>>, ObjectError>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let known = cache.filter(Cache::is_synced);
        if let Some(object) = known.as_ref().and_then(|cache| cache.get(namespace, name)) {
            return Ok(Some(object));
        }
        // A watch may lag behind the pod that refers to the object: what is not in it is asked for.
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        match api.get_opt(name).await {
            Ok(found) => Ok(found.map(Arc::new)),
            // While the server is away, what the watch said last counts: a restart must not wait for what may be missing.
            Err(error) if known.is_some() && knode_client::status_code(&error).is_none() => Ok(None),
            Err(error) => Err(ObjectError(text(&error))),
        }
    }
}

impl<K> Caches<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    fn get(&self, namespace: &str, name: &str) -> Option<Cache<K>> {
        self.held
            .get(&(namespace.to_owned(), name.to_owned()))
            .map(|held| held.cache.clone())
    }

    fn add(
        &mut self,
        client: &Client,
        namespace: &str,
        name: &str,
        uid: &str,
        changes: &mpsc::UnboundedSender<String>,
    ) {
        let key = (namespace.to_owned(), name.to_owned());
        let held = self.held.entry(key).or_insert_with(|| {
            let api: Api<K> = Api::namespaced(client.clone(), namespace);
            let cache = Cache::start(api, WatchConfig::fields(format!("metadata.name={name}")));
            let users = Arc::default();
            tokio::spawn(tell(cache.subscribe(), Arc::downgrade(&users), changes.clone()));
            Held { cache, users }
        });
        lock(&held.users).insert(uid.to_owned());
    }

    fn remove(&mut self, uid: &str) {
        self.held.retain(|_, held| {
            let mut users = lock(&held.users);
            users.remove(uid);
            !users.is_empty()
        });
    }
}

/// Names the users of an object at each of its changes, for as long as it is held.
async fn tell<K>(
    mut deltas: knode_client::Subscription<K>,
    users: std::sync::Weak<Mutex<BTreeSet<String>>>,
    changes: mpsc::UnboundedSender<String>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    while deltas.recv().await.is_some() {
        let Some(users) = users.upgrade() else { return };
        for uid in lock(&users).iter() {
            // Nobody listens any more: the kubelet ends.
            let _ = changes.send(uid.clone());
        }
    }
}

fn tokio_stream(receiver: mpsc::UnboundedReceiver<String>) -> BoxStream<'static, String> {
    futures::stream::unfold(receiver, |mut receiver| async {
        let next = receiver.recv().await?;
        Some((next, receiver))
    })
    .boxed()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
