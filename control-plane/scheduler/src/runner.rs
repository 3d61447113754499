//! The loop: changes come in, decisions go out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use knode_client::{
    AnyCache, Api, ApiError, Backoff, Change, Client, ObjectKey, Verb, WatchConfig, is_conflict,
    is_not_found, send, watch,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::backlog::Backlog;
use crate::bind;
use crate::cluster::Cluster;
use crate::decide::{Verdict, decide};
use crate::events::{Kind, Reporter};
use crate::filter::{self, Storage};
use crate::model::{Node, Pod};
use crate::patch;

/// Writes under way at once.
const WRITES: usize = 32;

/// Pauses after failed bindings, upstream's.
const PAUSES: Backoff = Backoff {
    initial: Duration::from_secs(1),
    max: Duration::from_secs(10),
    factor: 2.0,
    jitter: 0.0,
};

/// Gives every pending pod a node, until `shutdown` resolves.
///
/// Nodes and pods are followed by watches; nothing is polled. A pod that no node can take is tried again when a node
/// changes or another pod leaves.
pub async fn run(client: Client, shutdown: impl Future<Output = ()> + Send) {
    let mut nodes = watch::<core::Node>(Api::all(client.clone()), WatchConfig::default());
    let mut pods = watch::<core::Pod>(Api::all(client.clone()), WatchConfig::default());
    let storage = AnyCache::start(&client, filter::KINDS);
    let mut storage_changes = storage.changes();
    let mut scheduler = Scheduler::new(client, storage, &host_name());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            Some(change) = nodes.next() => scheduler.node_changed(change),
            Some(change) = pods.next() => scheduler.pod_changed(change),
            Ok(()) = storage_changes.changed() => scheduler.storage_changed(),
            Some(done) = scheduler.tasks.join_next(), if !scheduler.tasks.is_empty() => scheduler.task_ended(done),
        }
        scheduler.schedule();
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// How a task ended.
enum Done {
    /// The binding of this pod (by uid) was answered.
    Bound {
        pod: Box<Pod>,
        node: String,
        answer: Result<(), ApiError>,
    },
    /// The pause after a failed binding is over.
    Paused(ObjectKey),
    /// Nothing follows.
    Written,
    /// What a claim needs could not be written.
    Again,
}

struct Scheduler {
    client: Client,
    cluster: Cluster,
    backlog: Backlog,
    /// Both first lists must be complete before the first decision.
    nodes_known: bool,
    pods_known: bool,
    storage: AnyCache,
    /// The cluster's storage is not what is known of it.
    storage_old: bool,
    tasks: JoinSet<Done>,
    writes: Arc<Semaphore>,
    reporter: Reporter,
}

impl Scheduler {
    fn new(client: Client, storage: AnyCache, host: &str) -> Self {
        Self {
            reporter: Reporter::start(client.clone(), host),
            client,
            cluster: Cluster::default(),
            backlog: Backlog::default(),
            nodes_known: false,
            pods_known: false,
            storage,
            storage_old: true,
            tasks: JoinSet::new(),
            writes: Arc::new(Semaphore::new(WRITES)),
        }
    }

    fn node_changed<E: std::error::Error + 'static>(&mut self, change: Result<Change<core::Node>, E>) {
        let better = match change {
            Ok(Change::Applied(node)) => self.cluster.set_node(Node::of(&node)),
            Ok(Change::Deleted(node)) => {
                self.cluster.remove_node(&Node::of(&node).name);
                // The message of parked pods counts nodes.
                true
            }
            Ok(Change::Restarted(nodes)) => {
                self.nodes_known = true;
                let nodes: Vec<Node> = nodes.iter().map(Node::of).collect();
                for gone in self.cluster.node_names() {
                    if !nodes.iter().any(|node| node.name == gone) {
                        self.cluster.remove_node(&gone);
                    }
                }
                for node in nodes {
                    self.cluster.set_node(node);
                }
                true
            }
            Err(error) => {
                tracing::warn!(
                    kind = "Node",
                    error = &error as &dyn std::error::Error,
                    "watch interrupted"
                );
                false
            }
        };
        if better {
            self.backlog.retry_all();
        }
    }

    fn storage_changed(&mut self) {
        self.storage_old = true;
        self.backlog.retry_claimants();
    }

    /// What is known of claims and volumes, for pods that have any.
    fn look_at_storage(&mut self) {
        if std::mem::take(&mut self.storage_old) {
            self.cluster.storage = Storage {
                claims: self.storage.of(&filter::CLAIMS),
                volumes: self.storage.of(&filter::VOLUMES),
                classes: self.storage.of(&filter::CLASSES),
            };
        }
    }

    fn pod_changed<E: std::error::Error + 'static>(&mut self, change: Result<Change<core::Pod>, E>) {
        match change {
            Ok(Change::Applied(pod)) => self.pod_applied(Pod::of(&pod)),
            Ok(Change::Deleted(pod)) => self.pod_gone(&ObjectKey::of(&pod)),
            Ok(Change::Restarted(pods)) => {
                self.pods_known = true;
                let pods: Vec<Pod> = pods.iter().map(Pod::of).collect();
                let keys: HashSet<&ObjectKey> = pods.iter().map(|pod| &pod.key).collect();
                let known = self.cluster.assigned().into_iter().chain(self.backlog.keys());
                for gone in known.filter(|key| !keys.contains(key)).collect::<Vec<_>>() {
                    self.pod_gone(&gone);
                }
                for pod in pods {
                    self.pod_applied(pod);
                }
            }
            Err(error) => {
                tracing::warn!(
                    kind = "Pod",
                    error = &error as &dyn std::error::Error,
                    "watch interrupted"
                );
            }
        }
    }

    fn pod_applied(&mut self, pod: Pod) {
        if let Some(node) = pod.node.clone().filter(|_| pod.is_assigned()) {
            self.backlog.remove(&pod.key);
            self.cluster.assign(&pod, &node);
            return;
        }
        // The watch may be behind a binding that is under way.
        let assumed = self.backlog.is_binding(&pod.key, &pod.uid);
        if !assumed && self.cluster.release(&pod.key) {
            self.backlog.retry_all();
        }
        if pod.is_pending() {
            self.backlog.upsert(pod);
        } else if !assumed {
            self.backlog.remove(&pod.key);
        }
    }

    fn pod_gone(&mut self, key: &ObjectKey) {
        self.backlog.remove(key);
        if self.cluster.release(key) {
            self.backlog.retry_all();
        }
    }

    fn schedule(&mut self) {
        if !(self.nodes_known && self.pods_known) {
            return;
        }
        while let Some(pod) = self.backlog.next() {
            if !pod.claims.is_empty() {
                if *self.storage.changes().borrow() == 0 {
                    // It comes back with the first lists.
                    continue;
                }
                self.look_at_storage();
            }
            match decide(&pod, &self.cluster) {
                Verdict::Claims(changes) => self.provide(&pod, changes),
                Verdict::Bind(node) => self.bind(pod, node),
                Verdict::Unschedulable(message) => self.refuse(&pod, message),
            }
        }
    }

    fn bind(&mut self, pod: Pod, node: String) {
        self.backlog.binding(&pod.key);
        self.cluster.assign(&pod, &node);
        let (client, writes) = (self.client.clone(), self.writes.clone());
        self.tasks.spawn(async move {
            // The semaphore is never closed.
            let _turn = writes.acquire_owned().await;
            let answer = bind::bind(&client, &pod, &node).await;
            Done::Bound {
                pod: Box::new(pod),
                node,
                answer,
            }
        });
    }

    /// Writes what gives the pod's claims their volumes; the pod comes back when they are bound.
    fn provide(&mut self, pod: &Pod, changes: Vec<filter::Change>) {
        for change in changes {
            let (client, writes, key) = (self.client.clone(), self.writes.clone(), pod.key.clone());
            self.tasks.spawn(async move {
                // The semaphore is never closed.
                let _turn = writes.acquire_owned().await;
                let text = |field: &str| change.object["metadata"][field].as_str().unwrap_or_default();
                let path = change.kind.path(text("namespace"), text("name"));
                match send(&client, Verb::Update, &path, Some(&change.object)).await {
                    // Somebody was faster: the change that says so brings the pod back.
                    Err(error) if !is_not_found(&error) && !is_conflict(&error) => {
                        let error = knode_client::brief(&error);
                        tracing::warn!(pod = %key, path, error, "cannot give a claim its volume");
                        tokio::time::sleep(PAUSES.initial).await;
                        Done::Again
                    }
                    _ => Done::Written,
                }
            });
        }
    }

    fn refuse(&mut self, pod: &Pod, message: String) {
        let now = Timestamp::now();
        let patch = patch::unschedulable(pod, &message, now);
        self.reporter.report(pod, Kind::FailedScheduling, message, now);
        let Some(patch) = patch else { return };
        let (client, writes, key) = (self.client.clone(), self.writes.clone(), pod.key.clone());
        self.tasks.spawn(async move {
            // The semaphore is never closed.
            let _turn = writes.acquire_owned().await;
            match bind::patch_status(&client, &key, &patch).await {
                // A pod that is gone needs no condition; the next attempt writes one that was lost.
                Err(error) if !is_not_found(&error) => {
                    tracing::warn!(pod = %key, error = &error as &dyn std::error::Error, "cannot write PodScheduled");
                }
                _ => {}
            }
            Done::Written
        });
    }

    fn task_ended(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Written) => {}
            Ok(Done::Again) => self.backlog.retry_claimants(),
            Ok(Done::Paused(key)) => self.backlog.resume(&key),
            Ok(Done::Bound {
                pod,
                node,
                answer: Ok(()),
            }) => {
                let note = format!("Successfully assigned {} to {node}", pod.key);
                self.reporter
                    .report(&pod, Kind::Scheduled, note, Timestamp::now());
            }
            Ok(Done::Bound {
                pod,
                answer: Err(error),
                ..
            }) => self.bind_failed(&pod, &error),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "a scheduler task failed"
            ),
        }
    }

    fn bind_failed(&mut self, pod: &Pod, error: &ApiError) {
        if !self.backlog.is_binding(&pod.key, &pod.uid) {
            // The watch has brought the pod's fate already.
            return;
        }
        self.cluster.release(&pod.key);
        self.backlog.retry_all();
        if is_not_found(error) {
            self.backlog.remove(&pod.key);
            return;
        }
        tracing::warn!(pod = %pod.key, error = error as &dyn std::error::Error, "binding failed");
        let note = format!("binding rejected: {error}");
        self.reporter
            .report(pod, Kind::FailedScheduling, note, Timestamp::now());
        let (key, pause) = (pod.key.clone(), PAUSES.delay(self.backlog.failed(&pod.key), 0.0));
        self.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            Done::Paused(key)
        });
    }
}

#[cfg(test)]
mod tests;
