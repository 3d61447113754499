//! The Node object: registered, followed, and kept true.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};
use knode_client::{
    Api, Backoff, Change, Client, Clock, EventRecorder, Retry, WatchConfig, WatchError, is_not_found, watch,
};
use kube::api::{Patch, PatchParams};
use tokio::sync::{Notify, watch as channel};

use super::{NodeDeps, node_reference};
use crate::config::{DeviceCounts, NodeConfig};
use crate::machine::MachineInfo;
use crate::node::{RuntimeInfo, RuntimeWatch, initial_node, register, status_of};
use crate::status::{Conditions, Pressure, Report, ReportPlan, status_patch, transition_event};
use crate::{Result, csinode};

const RETRY: Backoff = Backoff {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(7),
    factor: 2.0,
    jitter: 0.1,
};

/// So long after its begin a kubelet may know less than the one before it did: network and runtime only come up.
const SETTLING: Duration = Duration::from_secs(5);

type Changes = Pin<Box<dyn Stream<Item = Result<Change<Node>, WatchError>> + Send>>;

/// How the follower is connected with the other parts.
pub(super) struct Outlets {
    /// Where the node is published.
    pub(super) published: channel::Sender<Option<Arc<Node>>>,
    /// Wakes the follower.
    pub(super) wake: Arc<Notify>,
    /// What is scarce.
    pub(super) pressure: channel::Receiver<Pressure>,
    /// Whether the machine shuts down.
    pub(super) shutting_down: channel::Receiver<bool>,
}

pub(super) struct NodeFollower {
    config: NodeConfig,
    client: Client,
    nodes: Api<Node>,
    runtime: RuntimeWatch,
    devices: Arc<dyn DeviceCounts>,
    recorder: Option<EventRecorder>,
    clock: Arc<dyn Clock>,
    published: channel::Sender<Option<Arc<Node>>>,
    wake: Arc<Notify>,
    pressure: channel::Receiver<Pressure>,
    shutting_down: channel::Receiver<bool>,
    report: Report,
    csinode_ready: bool,
    pod_cidr: Option<String>,
    /// When it began, on the monotonic clock.
    began: Duration,
}

impl NodeFollower {
    pub(super) fn new(config: NodeConfig, client: Client, deps: NodeDeps, outlets: Outlets) -> Result<Self> {
        // A machine that cannot be inspected is better noticed now.
        MachineInfo::read(&config.root_dir)?;
        Ok(Self {
            nodes: Api::all(client.clone()),
            client,
            runtime: RuntimeWatch::new(deps.runtime, deps.images, config.max_images),
            devices: deps.devices,
            recorder: deps.recorder,
            published: outlets.published,
            wake: outlets.wake,
            pressure: outlets.pressure,
            shutting_down: outlets.shutting_down,
            report: Report::default(),
            csinode_ready: false,
            pod_cidr: None,
            began: deps.clock.monotonic(),
            clock: deps.clock,
            config,
        })
    }

    pub(super) async fn run(mut self) {
        self.register().await;
        let selector = WatchConfig::fields(format!("metadata.name={}", self.config.node_name));
        let mut changes: Changes = watch(self.nodes.clone(), selector);
        loop {
            let ready = self.sync().await;
            let next = self.clock.sleep(self.report.pause(ready));
            self.wait(&mut changes, next).await;
        }
    }

    /// Takes in changes of the object until it is time for the next look.
    async fn wait(&mut self, changes: &mut Changes, next: futures::future::BoxFuture<'static, ()>) {
        let wake = self.wake.clone();
        let mut next = next;
        loop {
            tokio::select! {
                () = &mut next => return,
                () = wake.notified() => return,
                Ok(()) = self.pressure.changed() => return,
                change = changes.next() => match change {
                    Some(Ok(change)) => {
                        if self.take_in(change).await {
                            return;
                        }
                    }
                    Some(Err(error)) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "watch of the node interrupted");
                    }
                    // The watch is endless.
                    None => return,
                },
            }
        }
    }

    /// Whether the node had to be registered anew, so that its status is due.
    async fn take_in(&mut self, change: Change<Node>) -> bool {
        let current = match change {
            Change::Restarted(list) => list.into_iter().next(),
            Change::Applied(node) => Some(node),
            Change::Deleted(_) => None,
        };
        match current {
            Some(node) => {
                self.publish(node).await;
                false
            }
            None => {
                tracing::warn!(
                    node = self.config.node_name,
                    "node was deleted, registering again"
                );
                self.published.send_replace(None);
                self.csinode_ready = false;
                self.report = Report::default();
                self.register().await;
                true
            }
        }
    }

    /// Tries until the node is there.
    async fn register(&mut self) {
        let mut retry = Retry::new(RETRY);
        loop {
            let (machine, runtime, conditions) = match self.look().await {
                Ok(seen) => seen,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot inspect this machine"
                    );
                    self.clock.sleep(retry.failed()).await;
                    continue;
                }
            };
            let wanted = initial_node(&self.config, &machine, &runtime, &conditions, self.clock.now());
            match register(&self.nodes, &wanted).await {
                Ok(node) => {
                    tracing::info!(node = self.config.node_name, "node registered");
                    self.tell(&[], wanted.status.as_ref());
                    return self.publish(node).await;
                }
                Err(error) => {
                    let name = &self.config.node_name;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        node = name,
                        "node not registered"
                    );
                    self.clock.sleep(retry.failed()).await;
                }
            }
        }
    }

    async fn publish(&mut self, node: Node) {
        let cidr = node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
        if cidr.is_some() && cidr != self.pod_cidr {
            let text = pod_cidrs(&node);
            match self.runtime.set_pod_cidr(&text).await {
                Ok(()) => self.pod_cidr = cidr,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "runtime does not know the pod CIDR yet"
                    );
                }
            }
        }
        self.published.send_replace(Some(Arc::new(node)));
    }

    /// What is so now: machine, runtime, and what follows for the conditions.
    async fn look(&mut self) -> Result<(MachineInfo, RuntimeInfo, Conditions)> {
        let mut machine = MachineInfo::read(&self.config.root_dir)?;
        machine.devices = self.devices.counts();
        let runtime = self.runtime.look(self.clock.monotonic()).await;
        let mut problems = runtime.problems.clone();
        if !self.csinode_ready {
            problems.push("CSINode is not yet initialized".to_owned());
        }
        if *self.shutting_down.borrow() {
            problems.push("node is shutting down".to_owned());
        }
        let pressure = *self.pressure.borrow_and_update();
        Ok((machine, runtime, Conditions { pressure, problems }))
    }

    /// Brings the status up to date; whether the node is ready.
    async fn sync(&mut self) -> bool {
        let Some(node) = self.published.borrow().clone() else {
            return false;
        };
        if !self.csinode_ready {
            match csinode::ensure(&self.client, &node).await {
                Ok(()) => self.csinode_ready = true,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "CSINode not initialised"
                    );
                }
            }
        }
        let (machine, runtime, conditions) = match self.look().await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot inspect this machine"
                );
                return false;
            }
        };
        let ready = conditions.problems.is_empty();
        let old = node.status.clone().unwrap_or_default();
        if !ready && self.settles(&old) {
            return false;
        }
        let new = status_of(
            &old,
            &self.config,
            &machine,
            &runtime,
            &conditions,
            self.clock.now(),
        );
        if self.report.plan(&old, &new, self.clock.monotonic()) == ReportPlan::Send {
            self.send(&old, &new).await;
        }
        ready
    }

    /// Whether a node that was ready is to stay so for now: its pods' endpoints would go with it for a moment.
    fn settles(&self, old: &NodeStatus) -> bool {
        let mut conditions = old.conditions.iter().flatten();
        let was_ready = conditions.any(|c| c.type_ == "Ready" && c.status == "True");
        let begins = self.clock.monotonic().saturating_sub(self.began) < SETTLING;
        was_ready && begins && !*self.shutting_down.borrow()
    }

    async fn send(&mut self, old: &NodeStatus, new: &NodeStatus) {
        let Some(patch) = status_patch(old, new) else {
            return;
        };
        let params = PatchParams::default();
        let answer = self
            .nodes
            .patch_status(&self.config.node_name, &params, &Patch::Strategic(patch))
            .await;
        match answer {
            Ok(node) => {
                self.report.sent(self.clock.monotonic());
                self.tell(old.conditions.as_deref().unwrap_or_default(), Some(new));
                self.publish(node).await;
            }
            // The watch will tell, and the node be registered again.
            Err(error) if is_not_found(&error) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "node status not sent");
            }
        }
    }

    /// Reports conditions that changed as events.
    fn tell(&self, old: &[NodeCondition], new: Option<&NodeStatus>) {
        let Some(recorder) = &self.recorder else { return };
        let name = &self.config.node_name;
        for condition in new
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten()
        {
            let before = old.iter().find(|before| before.type_ == condition.type_);
            let changed = before.is_none_or(|before| before.status != condition.status);
            // A node that registers is not ready yet, and that goes without saying.
            let silent = before.is_none() && condition.type_ == "Ready" && condition.status != "True";
            if let (true, false, Some(reason)) = (changed, silent, transition_event(condition)) {
                recorder.normal(
                    node_reference(name),
                    reason,
                    format!("Node {name} status is now: {reason}"),
                );
            }
        }
    }
}

/// All ranges of the node, as the runtime wants them.
fn pod_cidrs(node: &Node) -> String {
    let spec = node.spec.as_ref();
    let several = spec
        .and_then(|spec| spec.pod_cidrs.clone())
        .filter(|list| !list.is_empty());
    several.map_or_else(
        || spec.and_then(|spec| spec.pod_cidr.clone()).unwrap_or_default(),
        |list| list.join(","),
    )
}
