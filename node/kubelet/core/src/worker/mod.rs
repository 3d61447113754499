//! The worker of one pod: a task that lives as long as the pod, sleeps until something happens, plans, and
//! carries out what is planned. It decides nothing itself.

mod apply;
mod context;
mod execute;
mod files;
mod hooks;
mod image;
mod measure;
mod message;
mod mounts;
mod outcome;
mod pins;
mod release;
mod resize;
mod sandbox;
mod start;
mod stop;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use knode_client::EventKind;
use tokio::sync::{mpsc, oneshot, watch};

use crate::model::{ContainerRecord, ContainerState, Eviction, Observed, Op, Sandbox};
use crate::plan::{Action, PodEvent, Stage, past_deadline, plan, reset, stage};
use crate::pod::PodExt;
use crate::status::{status, status_patch};

pub(crate) use context::{Context, Features};
pub(crate) use outcome::Outcome;
pub(crate) use pins::{Pins, Told};

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Signal {
    /// The pod as the API has it now.
    Pod(Arc<Pod>),
    /// The pod is gone from the API.
    Removed,
    /// A sandbox is new or has changed.
    Sandbox(Sandbox),
    /// A container is new or has changed.
    Container(Box<ContainerRecord>),
    /// A container may have changed: look.
    Look {
        /// Its id.
        container: String,
        /// Its sandbox.
        sandbox: String,
    },
    /// What the runtime has of the pod.
    Present {
        /// Sandboxes with whether they are ready.
        sandboxes: Vec<(String, bool)>,
        /// Containers with their sandbox and state.
        containers: Vec<(String, String, ContainerState)>,
    },
    /// The node ends the pod.
    Evict(Eviction),
    /// A config map or secret of the pod has changed.
    Content,
    /// The node needs the space that a pod which has ended takes; dropped once it is free, or if nothing is to be had.
    Clear(oneshot::Sender<()>),
}

/// What others may see of a worker's pod.
#[derive(Debug, Clone)]
pub struct PodView {
    /// The pod with its newest status.
    pub pod: Arc<Pod>,
    /// Its containers, newest first.
    pub containers: Vec<ContainerRecord>,
    /// Its sandboxes, newest first.
    pub sandboxes: Vec<Sandbox>,
}

type OpFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

pub(crate) struct Worker {
    context: Arc<Context>,
    pod: Arc<Pod>,
    observed: Observed,
    signals: mpsc::UnboundedReceiver<Signal>,
    ops: FuturesUnordered<OpFuture>,
    view: watch::Sender<PodView>,
    /// Tells starts to give up their pulls.
    cancel: watch::Sender<bool>,
    wake: Option<Timestamp>,
    status_retry: Option<(Timestamp, u32)>,
    /// Set until all containers of a pod that came have started.
    starting: Option<measure::Starting>,
    /// Who waits for the space that the ended pod takes.
    clearing: Vec<oneshot::Sender<()>>,
    finished: bool,
}

impl Worker {
    pub(crate) fn new(
        context: Arc<Context>,
        pod: Arc<Pod>,
        observed: Observed,
        signals: mpsc::UnboundedReceiver<Signal>,
        view: watch::Sender<PodView>,
    ) -> Self {
        let (cancel, _) = watch::channel(false);
        Self {
            context,
            pod,
            observed,
            signals,
            ops: FuturesUnordered::new(),
            view,
            cancel,
            wake: None,
            status_retry: None,
            starting: None,
            clearing: Vec::new(),
            finished: false,
        }
    }

    /// Works until nothing of the pod is left, or the kubelet ends.
    pub(crate) async fn run(mut self) {
        let now = self.context.now();
        self.note_came(now);
        self.observed.start_time.get_or_insert(now);
        self.restore_granted(now);
        self.track_probes(now);
        self.track_resources();
        self.ask_for_devices().await;
        loop {
            self.advance();
            if self.finished {
                return;
            }
            let pause = self.wake.map(|wake| self.context.until(wake));
            tokio::select! {
                signal = self.signals.recv() => match signal {
                    Some(signal) => self.take_all(signal),
                    None => return,
                },
                Some(outcome) = self.ops.next(), if !self.ops.is_empty() => self.apply(outcome),
                () = sleep(&self.context, pause) => {}
            }
        }
    }

    /// A pod of which nothing runs here is given its devices, or is not taken. Its signals wait.
    async fn ask_for_devices(&mut self) {
        let ends = self.pod.is_deleted() || self.pod.is_terminal() || self.observed.removed;
        if ends || self.observed.rejected.is_some() || self.observed.ready_sandbox().is_some() {
            return;
        }
        if let Err(rejection) = self.context.config.devices.admit(&self.pod).await {
            let event = PodEvent::pod(EventKind::Warning, &rejection.reason, rejection.message.clone());
            self.context.api.event(&self.pod, &event);
            self.context.config.metrics.pods.rejected(&rejection.reason);
            self.observed.rejected = Some(rejection);
        }
    }

    /// Takes a signal and those that wait behind it.
    fn take_all(&mut self, first: Signal) {
        self.take(first);
        while let Ok(signal) = self.signals.try_recv() {
            self.take(signal);
        }
    }

    /// Reports and plans until there is nothing to do but wait.
    fn advance(&mut self) {
        // Each round either changes what is observed or is the last.
        for _ in 0..32 {
            let now = self.context.now();
            self.wake = None;
            self.judge(now);
            self.tell_start(now);
            self.report(now);
            let actions = plan(&self.pod, &self.observed, now);
            let mut again = false;
            for action in actions {
                again |= self.begin(action, now);
            }
            if !again || self.finished {
                break;
            }
        }
        self.publish();
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Writes the status if the API's is another; one request at a time, the next from what that one gave.
    fn report(&mut self, now: Timestamp) {
        // What a static pod's mirror says comes with its version: before that nobody knows what has changed.
        let unknown = self.pod.is_static() && self.pod.metadata.resource_version.is_none();
        let busy = self.observed.busy.contains(&Op::Status);
        if self.observed.removed || unknown || busy || self.about_to_end(now) {
            return;
        }
        if let Some((retry, _)) = self.status_retry.filter(|(retry, _)| *retry > now) {
            return self.wake_at(retry);
        }
        let new = self.status(now);
        let old = self.pod.status.clone().unwrap_or_default();
        match status_patch(self.pod.uid(), &old, &new) {
            None => self.observed.reported = true,
            Some(patch) => {
                self.observed.reported = false;
                self.start(
                    Op::Status,
                    execute::write_status(self.context.clone(), self.pod.clone(), patch),
                );
            }
        }
    }

    /// Whether only the sandbox of a pod that was told to end is left: its last status follows at once.
    fn about_to_end(&self, now: Timestamp) -> bool {
        let told = self.pod.is_deleted() || past_deadline(&self.pod, &self.observed, now);
        told && stage(&self.pod, &self.observed, now) == Stage::Ending
            && self.observed.running().next().is_none()
    }

    fn status(&self, now: Timestamp) -> PodStatus {
        status(&self.pod, &self.observed, &self.context.facts, now)
    }

    fn start(&mut self, op: Op, future: impl Future<Output = Outcome> + Send + 'static) {
        self.observed.busy.insert(op.clone());
        let told = measure::told(self.context.config.metrics.clone(), op, future);
        self.ops.push(Box::pin(told));
    }

    /// Pulls are given up as soon as the pod is to end.
    fn cancel_if_ending(&self, now: Timestamp) {
        if stage(&self.pod, &self.observed, now) != Stage::Active {
            self.cancel.send_replace(true);
        }
    }

    fn publish(&self) {
        self.view.send_if_modified(|view| {
            let same = Arc::ptr_eq(&view.pod, &self.pod)
                && view.containers == self.observed.containers
                && view.sandboxes == self.observed.sandboxes;
            if !same {
                *view = PodView {
                    pod: self.pod.clone(),
                    containers: self.observed.containers.clone(),
                    sandboxes: self.observed.sandboxes.clone(),
                };
            }
            !same
        });
    }

    /// Begins an action; true if it was over at once, so that there may be more to plan.
    fn begin(&mut self, action: Action, now: Timestamp) -> bool {
        match action {
            Action::WakeAt(at) => self.wake_at(at),
            Action::Finish => self.finished = true,
            Action::Event(event) => self.context.api.event(&self.pod, &event),
            Action::NoteDeadline => {
                self.observed.deadline_noted = true;
                return true;
            }
            Action::Reset => {
                let void: Vec<String> = reset(&self.pod, &self.observed).collect();
                self.observed.void.extend(void);
                return true;
            }
            Action::Wait { container, wait } => {
                self.observed.waits.insert(container, wait);
                return true;
            }
            other => self.execute(other, now),
        }
        false
    }
}

async fn sleep(context: &Context, pause: Option<Duration>) {
    match pause {
        Some(pause) => context.config.clock.sleep(pause).await,
        None => std::future::pending().await,
    }
}
