//! One task that hands what happens to the worker it concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use knode_cri as cri;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinSet};

use super::inventory::{self, Found};
use super::relist::{self, Listing, Present};
use super::runtime_events::{self, RuntimeEvent};
use super::{Shared, orphans};
use crate::admission::{AdmissionNode, reject};
use crate::api::PodChange;
use crate::error::Error;
use crate::model::{Observed, Rejection, container_uid, sandbox_record};
use crate::pod::PodExt;
use crate::spec::labels;
use crate::worker::{Context, PodView, Signal, Worker};

/// How often everything is compared with the runtime, in case an event was lost.
const RELIST: Duration = Duration::from_secs(60);

pub(super) struct Dispatcher {
    context: Arc<Context>,
    shared: Arc<Shared>,
    workers: BTreeMap<String, mpsc::UnboundedSender<Signal>>,
    tasks: JoinSet<()>,
    ids: HashMap<Id, String>,
    /// What the runtime had of pods that no worker has taken yet.
    found: BTreeMap<String, Found>,
    /// Pods whose deletion is done and of which the watch has not said so yet.
    gone: BTreeSet<String>,
    /// Pods that the watch has said to be gone and whose workers still end them.
    leaving: BTreeSet<String>,
    /// Pods that came again while their workers ended them: static pods have the same uid again.
    again: BTreeMap<String, Arc<Pod>>,
    synced: bool,
    /// What the runtime had at the last look.
    listing: Listing,
    pods: BoxStream<'static, PodChange>,
    contents: BoxStream<'static, String>,
    events: mpsc::UnboundedReceiver<RuntimeEvent>,
    follower: JoinSet<()>,
}

impl Dispatcher {
    /// Subscribes to everything, then lists what the runtime has.
    pub(super) async fn new(context: Arc<Context>, shared: Arc<Shared>) -> Result<Self, Error> {
        let (to, events) = mpsc::unbounded_channel();
        let mut follower = JoinSet::new();
        follower.spawn(runtime_events::follow(context.clone(), to));
        let found = inventory::all(&context).await?;
        Ok(Self {
            pods: context.api.pods(),
            contents: context.api.content_changes(),
            context,
            shared,
            workers: BTreeMap::new(),
            tasks: JoinSet::new(),
            ids: HashMap::new(),
            found,
            gone: BTreeSet::new(),
            leaving: BTreeSet::new(),
            again: BTreeMap::new(),
            synced: false,
            listing: Listing::new(),
            events,
            follower,
        })
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self) {
        let clock = self.context.config.clock.clone();
        let mut relist = clock.sleep(RELIST);
        loop {
            tokio::select! {
                Some(change) = self.pods.next() => self.pod_change(change),
                Some(event) = self.events.recv() => match event {
                    RuntimeEvent::Event(event) => self.runtime_event(*event),
                    RuntimeEvent::Gap => self.relist(true).await,
                    RuntimeEvent::Beat => self.relist(false).await,
                },
                Some(uid) = self.contents.next() => self.tell(&uid, Signal::Content),
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                () = &mut relist => {
                    relist = clock.sleep(RELIST);
                    self.relist(true).await;
                }
                else => {
                    tracing::error!(followers = self.follower.len(), "nothing is left to follow");
                    return;
                }
            }
        }
    }

    fn tell(&self, uid: &str, signal: Signal) {
        if let Some(worker) = self.workers.get(uid) {
            // A worker that has just ended needs to hear nothing.
            let _ = worker.send(signal);
        }
    }

    fn pod_change(&mut self, change: PodChange) {
        match change {
            PodChange::All(mut pods) => {
                pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
                let uids: BTreeSet<String> = pods.iter().map(|pod| pod.uid().to_owned()).collect();
                self.gone.retain(|uid| uids.contains(uid));
                let left = self.workers.keys().filter(|uid| !uids.contains(*uid));
                for uid in left.cloned().collect::<Vec<_>>() {
                    self.removed(&uid);
                }
                for pod in pods {
                    self.applied(pod);
                }
                if !self.synced {
                    self.first_list(uids);
                }
            }
            PodChange::Applied(pod) => self.applied(pod),
            PodChange::Deleted(pod) => {
                self.gone.remove(pod.uid());
                self.tell(pod.uid(), Signal::Pod(pod.clone()));
                self.removed(pod.uid());
            }
        }
    }

    fn removed(&mut self, uid: &str) {
        self.again.remove(uid);
        if self.workers.contains_key(uid) {
            self.leaving.insert(uid.to_owned());
            self.tell(uid, Signal::Removed);
        }
    }

    /// Ends what is left of pods that went while nobody looked.
    fn first_list(&mut self, mut known: BTreeSet<String>) {
        self.synced = true;
        for (uid, found) in std::mem::take(&mut self.found) {
            known.insert(uid.clone());
            self.orphan(uid, found);
        }
        self.context.retain_resources(&known);
        self.context.config.devices.retain(&known);
        let context = self.context.clone();
        let orphaned = orphans::find(&context, &known);
        let logs = orphans::find_logs(&context, &known);
        tokio::spawn(orphans::sweep(context.clone(), orphaned));
        tokio::task::spawn_blocking(move || orphans::sweep_logs(&context, &logs));
        self.shared.synced.send_replace(true);
    }

    fn orphan(&mut self, uid: String, found: Found) {
        tracing::info!(
            uid,
            pod = found.pod.pod_name(),
            "ending what is left of a pod that is gone"
        );
        let observed = Observed {
            removed: true,
            ..found.observed
        };
        self.spawn(Arc::new(found.pod), observed, None);
    }

    fn applied(&mut self, pod: Arc<Pod>) {
        let uid = pod.uid().to_owned();
        if self.gone.contains(&uid) {
            return;
        }
        if self.leaving.contains(&uid) {
            self.again.insert(uid, pod);
            return;
        }
        self.context.api.register(&pod);
        if self.workers.contains_key(&uid) {
            return self.tell(&uid, Signal::Pod(pod));
        }
        let found = self.found.remove(&uid).map(|found| found.observed);
        let rejection = if found.is_none() { self.admit(&pod) } else { None };
        if rejection.is_none() {
            self.context.keep_resources(&pod);
        }
        self.spawn(pod, found.unwrap_or_default(), rejection);
    }

    /// Looks at pods that are new to this node only: what ran before goes on.
    fn admit(&self, pod: &Pod) -> Option<Rejection> {
        let begun = pod.api_status().is_some_and(|status| status.start_time.is_some());
        if begun || pod.is_deleted() || pod.is_terminal() {
            return None;
        }
        let pods = self.shared.pods();
        let others = pods
            .iter()
            .map(AsRef::as_ref)
            .filter(|other| !other.is_terminal());
        let (labels, mut allocatable) = (
            self.context.config.node.labels(),
            self.context.config.node.allocatable(),
        );
        // Devices are asked for by name later on, and by whom they are counted.
        allocatable.retain(|resource, _| !self.context.config.devices.counts(resource));
        let pressures = self.context.config.node.pressures();
        let node = AdmissionNode {
            name: &self.context.config.node_name,
            labels: &labels,
            allocatable: &allocatable,
            pressures: &pressures,
            shutting_down: self.context.config.node.is_shutting_down(),
            apparmor: self.context.config.modules.apparmor,
        };
        reject(pod, others, node).or_else(|| self.context.admit_resources(pod))
    }

    fn spawn(&mut self, pod: Arc<Pod>, mut observed: Observed, rejection: Option<Rejection>) {
        let uid = pod.uid().to_owned();
        if let Some(rejection) = rejection {
            let kind = knode_client::EventKind::Warning;
            let event = crate::plan::PodEvent::pod(kind, &rejection.reason, rejection.message.clone());
            self.context.api.event(&pod, &event);
            self.context.config.metrics.pods.rejected(&rejection.reason);
            observed.rejected = Some(rejection);
        }
        // What has changed since it was found is told at the next look.
        self.listing.remove(&uid);
        let (signals, receiver) = mpsc::unbounded_channel();
        let view = PodView {
            pod: pod.clone(),
            containers: observed.containers.clone(),
            sandboxes: observed.sandboxes.clone(),
        };
        let (view, viewer) = watch::channel(view);
        self.shared.put(&uid, viewer, signals.clone());
        let worker = Worker::new(self.context.clone(), pod, observed, receiver, view);
        let task = self.tasks.spawn(worker.run());
        self.ids.insert(task.id(), uid.clone());
        self.workers.insert(uid, signals);
    }

    fn ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "a pod's worker broke off");
                error.id()
            }
        };
        if let Some(uid) = self.ids.remove(&id) {
            self.workers.remove(&uid);
            if let Some(pod) = self.shared.take_out(&uid) {
                // Changes that came after the worker had given up its objects have registered the pod again.
                self.context.api.unregister(&pod);
            }
            if !self.leaving.remove(&uid) {
                self.gone.insert(uid);
            } else if let Some(pod) = self.again.remove(&uid) {
                self.applied(pod);
            }
        }
    }

    fn runtime_event(&mut self, event: cri::ContainerEventResponse) {
        let sandbox = event.pod_sandbox_status.as_ref();
        let labelled = sandbox.and_then(|status| status.labels.get(labels::POD_UID).cloned());
        let named = || {
            sandbox
                .and_then(|status| status.metadata.as_ref())
                .map(|metadata| metadata.uid.clone())
        };
        let of_container = || {
            event
                .containers_statuses
                .iter()
                .find_map(container_uid)
                .map(ToOwned::to_owned)
        };
        let uid = labelled
            .or_else(named)
            .or_else(of_container)
            .or_else(|| self.shared.owner(&event.container_id));
        let Some(uid) = uid else { return };
        let sandbox_id = sandbox.map(|status| status.id.clone()).unwrap_or_default();
        let mut signals: Vec<Signal> = sandbox
            .map(|status| Signal::Sandbox(sandbox_record(status)))
            .into_iter()
            .collect();
        for status in &event.containers_statuses {
            signals.push(Signal::Container(Box::new(
                self.context.record(status, &sandbox_id),
            )));
        }
        let told = event
            .containers_statuses
            .iter()
            .any(|status| status.id == event.container_id);
        let deleted = event.container_event_type() == cri::ContainerEventType::ContainerDeletedEvent;
        if !told && !deleted && event.container_id != sandbox_id {
            signals.push(Signal::Look {
                container: event.container_id.clone(),
                sandbox: sandbox_id,
            });
        }
        for signal in signals {
            match self.found.get_mut(&uid) {
                Some(found) => remember(&mut found.observed, signal),
                None => self.tell(&uid, signal),
            }
        }
    }

    /// Compares with what the runtime has; unless `all`, only tells of what has changed since the last look.
    async fn relist(&mut self, all: bool) {
        let runtime = self.context.runtime();
        let sandboxes = runtime
            .list_pod_sandbox(cri::ListPodSandboxRequest::default())
            .await;
        let containers = runtime
            .list_containers(cri::ListContainersRequest::default())
            .await;
        let now = match (sandboxes, containers) {
            (Ok(sandboxes), Ok(containers)) => relist::by_pod(sandboxes.items, containers.containers),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "cannot list what the runtime has");
                return;
            }
        };
        let before = Some(&self.listing).filter(|_| !all);
        for (uid, worker) in &self.workers {
            if relist::is_news(uid, before, &now) {
                let Present {
                    sandboxes,
                    containers,
                } = now.get(uid).cloned().unwrap_or_default();
                // A worker that has just ended needs to hear nothing.
                let _ = worker.send(Signal::Present {
                    sandboxes,
                    containers,
                });
            }
        }
        self.listing = now;
    }
}

/// Keeps what happens to a pod that no worker has taken yet.
fn remember(observed: &mut Observed, signal: Signal) {
    match signal {
        Signal::Sandbox(sandbox) => observed.put_sandbox(sandbox),
        Signal::Container(record) => drop(observed.put_container(*record)),
        // The first comparison after the worker has begun sees the rest.
        _ => {}
    }
}
