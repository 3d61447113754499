//! Workers as pods come and go.

mod classes;
mod dispatch;
mod inventory;
mod orphans;
mod pins;
mod relist;
mod runtime_events;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knode_cri as cri;
use knode_volumes::{DriverUsage, PodPaths, VolumeError, Volumes};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::api::PodApi;
use crate::config::KubeletConfig;
use crate::error::Error;
use crate::model::{Cause, ContainerRecord, ContainerState, Eviction, ProbeKind, ProbeOutcome};
use crate::pod::PodExt;
use crate::pulls::PullRecords;
use crate::worker::{Context, Features, PodView, Signal};
use crate::{logs, static_pods};

/// A claim's file system in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedVolume {
    /// The pod.
    pub uid: String,
    /// The volume's name in the pod.
    pub volume: String,
    /// The claim's namespace, which is the pod's.
    pub namespace: String,
    /// The claim.
    pub claim: String,
    /// Where it is mounted.
    pub path: PathBuf,
}

/// The running pod side of the kubelet, and what can be asked of it.
pub struct Kubelet {
    shared: Arc<Shared>,
    context: Arc<Context>,
    /// Ended with the kubelet.
    _tasks: JoinSet<()>,
}

/// A worker as others see it.
pub(crate) struct Entry {
    view: watch::Receiver<PodView>,
    signals: mpsc::UnboundedSender<Signal>,
}

/// What the dispatcher writes and others read.
pub(crate) struct Shared {
    views: RwLock<BTreeMap<String, Entry>>,
    synced: watch::Sender<bool>,
    /// By uid, then by container and probe: how often it succeeded, failed, and could not be run.
    probes: Mutex<BTreeMap<String, ProbeCounts>>,
}

/// Results of the probes of a pod's containers.
pub type ProbeCounts = BTreeMap<(String, ProbeKind), [u64; 3]>;

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
        let mut tasks = JoinSet::new();
        let api: Arc<dyn PodApi> = static_pods::start(&config, &mut tasks);
        let objects = Arc::new(crate::api::AsObjects(api.clone()));
        let volumes = Volumes::new(PodPaths::new(&config.root_dir), objects);
        let volumes = volumes.with_drivers(config.node.drivers());
        let (synced, _) = watch::channel(false);
        let shared = Arc::new(Shared {
            views: RwLock::default(),
            synced,
            probes: Mutex::default(),
        });
        let pulled = open_pulls(&config).await?;
        let name = version.runtime_name;
        let status = config.runtime.status(cri::StatusRequest::default()).await;
        let features = Features::of(&status.map_err(Error::Runtime)?);
        let context = Context::new(config, api, volumes, pulled, shared.clone(), name, features);
        let context = Arc::new(context);
        let dispatcher = dispatch::Dispatcher::new(context.clone(), shared.clone()).await?;
        tasks.spawn(pins::run(context.clone()));
        tasks.spawn(classes::run(context.clone()));
        tasks.spawn(logs::run(context.clone(), shared.clone()));
        tasks.spawn(dispatcher.run());
        Ok(Self {
            shared,
            context,
            _tasks: tasks,
        })
    }

    /// All pods of this node with their newest status.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.shared.pods()
    }

    /// How often the probes of each pod here gave what.
    pub fn probes(&self) -> Vec<(Arc<Pod>, ProbeCounts)> {
        let counts = self.shared.probe_counts().clone();
        let views = self.shared.read();
        let pod = |uid: &String| Some(views.get(uid)?.view.borrow().pod.clone());
        let all = counts.into_iter();
        all.filter_map(|(uid, counts)| Some((pod(&uid)?, counts)))
            .collect()
    }

    /// A pod by namespace and name; of several with that name the one that is not being deleted.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<PodView> {
        let views = self.shared.read();
        let named = views.values().filter_map(|entry| {
            let view = entry.view.borrow();
            let is_it = view.pod.ns() == namespace && view.pod.pod_name() == name;
            is_it.then(|| view.clone())
        });
        named.min_by_key(|view| view.pod.is_deleted())
    }

    /// Claims whose file systems are mounted here.
    pub fn claimed_volumes(&self) -> Vec<ClaimedVolume> {
        let all = self.shared.pods().into_iter();
        let of_pod = |pod: Arc<Pod>| {
            let claims = self.context.volumes.of_claims(&pod).into_iter();
            let named = claims.map(|(volume, claim, path)| ClaimedVolume {
                uid: pod.uid().to_owned(),
                volume,
                namespace: pod.ns().to_owned(),
                claim,
                path,
            });
            named.collect::<Vec<_>>()
        };
        all.flat_map(of_pod).collect()
    }

    /// How full its driver says that what is mounted at `path` is; none where no driver tells.
    ///
    /// # Errors
    /// The driver's words.
    pub async fn volume_usage(&self, path: &Path) -> Option<Result<DriverUsage, VolumeError>> {
        self.context.volumes.usage(path).await
    }

    /// Forgets who may use images that are not among `present`, the ids of all that the runtime had at `asked` or later.
    pub async fn images_listed(&self, present: &BTreeSet<String>, asked: Timestamp) {
        self.context.pulled.prune(present, asked).await;
    }

    /// A pod by uid.
    pub fn pod_by_uid(&self, uid: &str) -> Option<PodView> {
        let views = self.shared.read();
        views.get(uid).map(|entry| entry.view.borrow().clone())
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

    /// Ends a pod because something is scarce or the machine shuts down, and waits until none of its containers runs;
    /// where something is scarce, until what the pod had is given back too (upstream: `waitForPodsCleanup`), so that
    /// nobody else has to go for it. False if there is no such pod here, or one that must not be evicted.
    pub async fn evict(&self, uid: &str, eviction: Eviction) -> bool {
        let cause = eviction.cause;
        let told = {
            let views = self.shared.read();
            let may_go =
                |entry: &&Entry| eviction.cause == Cause::Shutdown || !entry.view.borrow().pod.is_critical();
            let entry = views.get(uid).filter(may_go);
            entry.and_then(|entry| {
                entry.signals.send(Signal::Evict(eviction)).ok()?;
                Some((entry.view.clone(), entry.signals.clone()))
            })
        };
        let Some((mut view, signals)) = told else {
            return false;
        };
        let runs = |view: &PodView| {
            let mut all = view.containers.iter();
            all.any(|record| record.state == ContainerState::Running)
        };
        // A worker that ends has ended its containers before.
        let _ = view.wait_for(|view| view.pod.is_terminal() && !runs(view)).await;
        if cause == Cause::Scarcity {
            ask_to_clear(&signals).await;
        }
        true
    }

    /// Removes containers, sandboxes and logs of pods that have ended and are still in the API; comes back when all are
    /// gone (upstream: `DeleteAllUnusedContainers`).
    pub async fn clear_ended(&self) {
        let ask = |entry: &Entry| {
            let ended = entry.view.borrow().pod.is_terminal();
            ended.then(|| ask_to_clear(&entry.signals))
        };
        let asked: Vec<_> = self.shared.read().values().filter_map(ask).collect();
        futures::future::join_all(asked).await;
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

/// Asks a worker, at once, to take away what is kept of its pod that has ended; completes when it is gone.
fn ask_to_clear(signals: &mpsc::UnboundedSender<Signal>) -> impl Future<Output = ()> + use<> {
    let (waiting, gone) = oneshot::channel();
    // A worker that has ended has taken it away; the sender is dropped with the signal then.
    let _ = signals.send(Signal::Clear(waiting));
    async move {
        // The answer is the end of the sender, whatever is sent.
        let _ = gone.await;
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        self.views.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(
        &self,
        uid: &str,
        view: watch::Receiver<PodView>,
        signals: mpsc::UnboundedSender<Signal>,
    ) {
        self.views
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid.to_owned(), Entry { view, signals });
    }

    /// Forgets a pod; gives it as it was last.
    pub(super) fn take_out(&self, uid: &str) -> Option<Arc<Pod>> {
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        let gone = views.remove(uid);
        drop(views);
        self.probe_counts().remove(uid);
        gone.map(|entry| entry.view.borrow().pod.clone())
    }

    fn probe_counts(&self) -> MutexGuard<'_, BTreeMap<String, ProbeCounts>> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a probe's result.
    pub(crate) fn probed(&self, uid: &str, container: &str, kind: ProbeKind, outcome: &ProbeOutcome) {
        let place = match outcome {
            ProbeOutcome::Success => 0,
            ProbeOutcome::Failure(_) => 1,
            ProbeOutcome::Unknown(_) => 2,
        };
        let mut all = self.probe_counts();
        let counts = all.entry(uid.to_owned()).or_default();
        counts.entry((container.to_owned(), kind)).or_default()[place] += 1;
    }

    pub(super) fn all(&self) -> Vec<PodView> {
        let views = self.read();
        views.values().map(|entry| entry.view.borrow().clone()).collect()
    }

    pub(super) fn pods(&self) -> Vec<Arc<Pod>> {
        let views = self.read();
        let pod = |entry: &Entry| entry.view.borrow().pod.clone();
        views.values().map(pod).collect()
    }

    /// Pods that have not ended, but the one with this uid.
    pub(crate) fn pods_but(&self, uid: &str) -> Vec<Arc<Pod>> {
        let views = self.read();
        let others = views.iter().filter(|(one, _)| *one != uid);
        let pods = others.map(|(_, entry)| entry.view.borrow().pod.clone());
        pods.filter(|pod| !pod.is_terminal()).collect()
    }

    /// Ids and logs of all containers that run.
    pub(crate) fn running_logs(&self) -> Vec<(String, PathBuf)> {
        let mut all = Vec::new();
        for entry in self.read().values() {
            let view = entry.view.borrow();
            let running = view
                .containers
                .iter()
                .filter(|record| record.state == ContainerState::Running && !record.log_path.is_empty());
            all.extend(running.map(|record| (record.id.clone(), PathBuf::from(&record.log_path))));
        }
        all
    }

    /// The pod to which a container belongs.
    pub(super) fn owner(&self, container: &str) -> Option<String> {
        let owns = |view: &PodView| view.containers.iter().any(|record| record.id == container);
        self.read()
            .iter()
            .find(|(_, entry)| owns(&entry.view.borrow()))
            .map(|(uid, _)| uid.clone())
    }
}

/// Who may use the images that are here, with what the last kubelet had begun to pull.
async fn open_pulls(config: &KubeletConfig) -> Result<PullRecords, Error> {
    let pulled =
        PullRecords::open(&config.root_dir, config.pull_verification.clone()).map_err(Error::Pulls)?;
    if pulled.has_begun() {
        match config.images.list_images(cri::ListImagesRequest::default()).await {
            Ok(answer) => pulled.adopt(&answer.images, config.clock.now()).await,
            // What was being pulled stays written down as that, and is verified.
            Err(error) => tracing::warn!(%error, "cannot see which images were pulled last"),
        }
    }
    Ok(pulled)
}
