//! The API as workers see it: with static pods.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use knode_client::Clock;
use knode_volumes::{ObjectError, Objects, Token, TokenQuery, TrustQuery};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::directory::Directory;
use super::mirror::{MirrorAction, mirror_of, reflected};
use super::state::State;
use super::url::Fetcher;
use crate::api::{PodApi, PodApiError, PodChange};
use crate::config::{KubeletConfig, NodeView};
use crate::env::ServiceLink;
use crate::plan::PodEvent;
use crate::pod::PodExt;

/// Pause before a mirror pod that could not be made or deleted is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// The API with static pods beside the API's own.
pub(crate) struct WithStatic {
    inner: Arc<dyn PodApi>,
    state: Mutex<State>,
    node: Arc<dyn NodeView>,
    node_name: String,
    clock: Arc<dyn Clock>,
    out: mpsc::UnboundedSender<PodChange>,
    changes: Mutex<Option<mpsc::UnboundedReceiver<PodChange>>>,
    /// Mirrors may have to be made or deleted.
    mirrors: Notify,
}

/// Starts to follow the manifests, if the configuration names any, and the API's pods.
pub(crate) fn start(config: &KubeletConfig, tasks: &mut JoinSet<()>) -> Arc<WithStatic> {
    let (out, changes) = mpsc::unbounded_channel();
    let api = Arc::new(WithStatic {
        inner: config.api.clone(),
        state: Mutex::default(),
        node: config.node.clone(),
        node_name: config.node_name.clone(),
        clock: config.clock.clone(),
        out,
        changes: Mutex::new(Some(changes)),
        mirrors: Notify::new(),
    });
    if let Some(path) = &config.static_pods {
        let mut directory = Directory::new(path, &api.node_name, api.clock.clone());
        // What the manifests say is known before the API says what it has.
        let pods = directory.scan();
        api.take(|state| state.files(pods));
        tasks.spawn(follow_manifests(api.clone(), directory));
    }
    if let Some(fetched) = &config.fetched_pods {
        api.state().await_fetch();
        let fetcher = Fetcher::new(fetched.clone(), &api.node_name, api.clock.clone());
        tasks.spawn(follow_url(api.clone(), fetcher));
    }
    tasks.spawn(follow_pods(api.clone()));
    tasks.spawn(keep_mirrors(api.clone()));
    api
}

async fn follow_pods(api: Arc<WithStatic>) {
    let mut pods = api.inner.pods();
    while let Some(change) = pods.next().await {
        api.take(|state| state.api(change));
    }
}

async fn follow_manifests(api: Arc<WithStatic>, mut directory: Directory) {
    loop {
        directory.changed().await;
        let pods = directory.scan();
        api.take(|state| state.files(pods));
    }
}

async fn follow_url(api: Arc<WithStatic>, mut fetcher: Fetcher) {
    loop {
        if let Some(pods) = fetcher.look().await {
            api.take(|state| state.fetched(pods));
        }
        fetcher.pause().await;
    }
}

/// Makes and deletes mirror pods as often as needed.
async fn keep_mirrors(api: Arc<WithStatic>) {
    loop {
        api.mirrors.notified().await;
        loop {
            let actions = api.state().mirror_actions();
            let mut failed = false;
            for action in actions {
                failed |= !api.carry_out(&action).await;
            }
            if !failed {
                break;
            }
            api.clock.sleep(RETRY).await;
        }
    }
}

impl WithStatic {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and passes on what follows, in the order of the changes.
    fn take(&self, change: impl FnOnce(&mut State) -> Vec<PodChange>) {
        let mut state = self.state();
        for change in change(&mut state) {
            // Nobody listens when the kubelet ends.
            let _ = self.out.send(change);
        }
        drop(state);
        self.mirrors.notify_one();
    }

    /// Whether it was done.
    async fn carry_out(&self, action: &MirrorAction) -> bool {
        let (key, done) = match action {
            MirrorAction::Delete { key, uid } => (key, self.inner.delete(&key.0, &key.1, uid).await),
            MirrorAction::Create(key) => (key, self.create_mirror(key).await),
        };
        match done {
            // What is gone already is what was wanted; the watch says so a little later.
            Ok(()) | Err(PodApiError::Gone) => true,
            Err(PodApiError::Failed(error)) => {
                tracing::warn!(
                    namespace = key.0,
                    pod = key.1,
                    error,
                    ?action,
                    "mirror pod not as it should be"
                );
                false
            }
        }
    }

    async fn create_mirror(&self, key: &super::mirror::Key) -> Result<(), PodApiError> {
        let Some(pod) = self.state().wanted(key) else {
            return Ok(());
        };
        let Some(uid) = self.node.uid() else {
            return Err(PodApiError::Failed("the node is not registered yet".to_owned()));
        };
        let mirror = mirror_of(&pod, &self.node_name, &uid);
        let made = self.inner.create(&mirror).await?;
        self.take(|state| state.api(PodChange::Applied(Arc::new(made))));
        Ok(())
    }
}

#[async_trait]
impl Objects for WithStatic {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, ObjectError> {
        self.inner.config_map(namespace, name).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, ObjectError> {
        self.inner.secret(namespace, name).await
    }

    async fn trust_bundles(&self, query: &TrustQuery) -> Result<Vec<String>, ObjectError> {
        self.inner.trust_bundles(query).await
    }

    async fn object(&self, path: &str) -> Result<Option<Value>, ObjectError> {
        self.inner.object(path).await
    }

    async fn merge(&self, path: &str, patch: &Value) -> Result<(), ObjectError> {
        self.inner.merge(path, patch).await
    }

    async fn token(&self, query: &TokenQuery) -> Result<Token, ObjectError> {
        self.inner.token(query).await
    }
}

#[async_trait]
impl PodApi for WithStatic {
    async fn patch_status(&self, namespace: &str, name: &str, mut patch: Value) -> Result<Pod, PodApiError> {
        let uid = patch["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let Some((pod, mirror)) = self.state().of_uid(namespace, name, &uid) else {
            return self.inner.patch_status(namespace, name, patch).await;
        };
        // Without a mirror there is nobody to tell; when it is there the pod comes anew.
        patch["metadata"]["uid"] = mirror.ok_or(PodApiError::Gone)?.into();
        let answer = self.inner.patch_status(namespace, name, patch).await?;
        Ok(reflected(&pod, &answer))
    }

    async fn delete(&self, namespace: &str, name: &str, uid: &str) -> Result<(), PodApiError> {
        self.inner.delete(namespace, name, uid).await
    }

    async fn create(&self, pod: &Pod) -> Result<Pod, PodApiError> {
        self.inner.create(pod).await
    }

    fn event(&self, pod: &Pod, event: &PodEvent) {
        self.inner.event(pod, event);
    }

    async fn runtime_handler(&self, class: &str) -> Result<Option<String>, ObjectError> {
        self.inner.runtime_handler(class).await
    }

    async fn services(&self, namespace: &str, links: bool) -> Vec<ServiceLink> {
        self.inner.services(namespace, links).await
    }

    fn register(&self, pod: &Pod) {
        self.inner.register(pod);
    }

    fn unregister(&self, pod: &Pod) {
        self.inner.unregister(pod);
        if pod.is_static() {
            self.take(|state| state.gone(pod));
        }
    }

    fn content_changes(&self) -> BoxStream<'static, String> {
        self.inner.content_changes()
    }

    fn pods(&self) -> BoxStream<'static, PodChange> {
        let receiver = self.changes.lock().unwrap_or_else(PoisonError::into_inner).take();
        match receiver {
            Some(receiver) => futures::stream::unfold(receiver, |mut receiver| async move {
                Some((receiver.recv().await?, receiver))
            })
            .boxed(),
            // There is one dispatcher.
            None => futures::stream::pending().boxed(),
        }
    }
}
