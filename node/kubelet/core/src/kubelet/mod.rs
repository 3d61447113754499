//! Workers as pods come and go.

mod dispatch;
mod inventory;
mod orphans;
mod runtime_events;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::Pod;
use knode_cri as cri;
use knode_volumes::{PodPaths, Volumes};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::KubeletConfig;
use crate::error::Error;
use crate::model::ContainerRecord;
use crate::pod::PodExt;
use crate::worker::{Context, PodView};

/// The running pod side of the kubelet, and what can be asked of it.
pub struct Kubelet {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What the dispatcher writes and others read.
pub(crate) struct Shared {
    views: RwLock<BTreeMap<String, watch::Receiver<PodView>>>,
    synced: watch::Sender<bool>,
}

impl Kubelet {
    /// Starts. The kubelet ends when this is dropped, and leaves all containers as they are.
    ///
    /// # Errors
    /// If the runtime does not answer or a directory cannot be made.
    pub async fn start(config: KubeletConfig) -> Result<Self, Error> {
        for path in [
            &config.root_dir.join("pods"),
            &config.pod_logs_dir,
            &config.container_logs_dir,
        ] {
            std::fs::create_dir_all(path).map_err(|source| Error::Directory {
                path: path.clone(),
                source,
            })?;
        }
        let request = cri::VersionRequest {
            version: "0.1.0".to_owned(),
        };
        let version = config.runtime.version(request).await.map_err(Error::Runtime)?;
        let api = config.api.clone();
        let objects = Arc::new(crate::api::AsObjects(api.clone()));
        let volumes = Volumes::new(PodPaths::new(&config.root_dir), objects);
        let context = Arc::new(Context::new(config, api, volumes, version.runtime_name));
        let (synced, _) = watch::channel(false);
        let shared = Arc::new(Shared {
            views: RwLock::default(),
            synced,
        });
        let dispatcher = dispatch::Dispatcher::new(context, shared.clone()).await?;
        let task = tokio::spawn(dispatcher.run());
        Ok(Self { shared, task })
    }

    /// All pods of this node with their newest status.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.shared.all().into_iter().map(|view| view.pod).collect()
    }

    /// A pod by namespace and name; of several with that name the one that is not being deleted.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<PodView> {
        let all = self.shared.all().into_iter();
        let named = all.filter(|view| view.pod.ns() == namespace && view.pod.pod_name() == name);
        named.min_by_key(|view| view.pod.is_deleted())
    }

    /// A pod by uid.
    pub fn pod_by_uid(&self, uid: &str) -> Option<PodView> {
        let views = self.shared.read();
        views.get(uid).map(|view| view.borrow().clone())
    }

    /// The newest container of that name in a pod: its id, state and log path.
    pub fn container(&self, namespace: &str, pod: &str, container: &str) -> Option<ContainerRecord> {
        self.pod(namespace, pod)?
            .containers
            .into_iter()
            .find(|record| record.name == container)
    }

    /// The one before the newest.
    pub fn previous_container(&self, namespace: &str, pod: &str, container: &str) -> Option<ContainerRecord> {
        self.pod(namespace, pod)?
            .containers
            .into_iter()
            .filter(|record| record.name == container)
            .nth(1)
    }

    /// Whether the first list of pods has come.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Waits for the first list of pods.
    pub async fn wait_synced(&self) {
        // The sender lives in the same struct.
        let _ = self.shared.synced.subscribe().wait_for(|synced| *synced).await;
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, watch::Receiver<PodView>>> {
        self.views.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, uid: &str, view: watch::Receiver<PodView>) {
        self.views
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid.to_owned(), view);
    }

    pub(super) fn take_out(&self, uid: &str) {
        self.views
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }

    pub(super) fn all(&self) -> Vec<PodView> {
        self.read().values().map(|view| view.borrow().clone()).collect()
    }

    /// The pod to which a container belongs.
    pub(super) fn owner(&self, container: &str) -> Option<String> {
        let owns = |view: &PodView| view.containers.iter().any(|record| record.id == container);
        self.read()
            .iter()
            .find(|(_, view)| owns(&view.borrow()))
            .map(|(uid, _)| uid.clone())
    }
}
