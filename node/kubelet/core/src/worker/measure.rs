//! What is counted of a pod's worker.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knode_kubelet_metrics::{ContainerType, Metrics, PodStart, Work};

use super::{Outcome, Worker};
use crate::model::{ContainerRecord, ContainerState, Observed, Op};
use crate::pod::{ContainerKind, PodExt};

/// Time that was spent on something, added up by several at once.
#[derive(Debug, Default)]
pub(super) struct Spent(AtomicU64);

impl Spent {
    /// Adds what this future takes.
    pub async fn on<T>(&self, future: impl Future<Output = T>) -> T {
        let since = Instant::now();
        let done = future.await;
        let millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(millis, Ordering::Relaxed);
        done
    }

    fn total(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// The start of a pod that is still to be told of.
#[derive(Debug)]
pub(super) struct Starting {
    /// When this kubelet saw the pod first.
    pub seen: Timestamp,
    /// Having the images, of all containers together.
    pub images: Arc<Spent>,
}

impl Starting {
    pub fn new(seen: Timestamp) -> Self {
        Self {
            seen,
            images: Arc::default(),
        }
    }

    /// What the start has taken, once all containers of the pod have started.
    pub fn over(&self, pod: &Pod, observed: &Observed, now: Timestamp) -> Option<PodStart> {
        let spec = pod.spec()?;
        let started = |name: &str| {
            let record = observed.latest(name);
            record.is_some_and(|record| record.started_at.is_some())
        };
        if !spec.containers.iter().all(|container| started(&container.name)) {
            return None;
        }
        let created = pod.metadata.creation_timestamp.as_ref();
        let created = created.map_or(self.seen, |time| time.0);
        let inits = observed.containers.iter().filter(|record| {
            let found = pod.container(&record.name);
            found.is_some_and(|(kind, _)| kind == ContainerKind::Init)
        });
        Some(PodStart {
            since_created: between(created, now),
            since_seen: between(self.seen, now),
            apart: self.images.total() + inits.map(ran).sum::<Duration>(),
        })
    }
}

impl Worker {
    /// A pod that nobody has begun yet has come.
    pub(super) fn note_came(&mut self, now: Timestamp) {
        let status = self.pod.api_status();
        if status.is_some_and(|status| status.start_time.is_some()) {
            return;
        }
        let containers = self.pod.spec().map_or(0, |spec| spec.containers.len());
        self.context.config.metrics.pods.came(containers);
        self.starting = Some(Starting::new(now));
    }

    /// Tells once that all containers of the pod have started.
    pub(super) fn tell_start(&mut self, now: Timestamp) {
        let over = |starting: &Starting| starting.over(&self.pod, &self.observed, now);
        if let Some(start) = self.starting.as_ref().and_then(over) {
            self.context.config.metrics.pods.started(start);
            self.starting = None;
        }
    }
}

/// How long a container that has ended has run.
fn ran(record: &ContainerRecord) -> Duration {
    match (record.state, record.started_at, record.finished_at) {
        (ContainerState::Exited, Some(from), Some(to)) => between(from, to),
        _ => Duration::ZERO,
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// The operation, told of when it is over; probes are counted by their results.
pub(super) async fn told(
    metrics: Arc<Metrics>,
    op: Op,
    future: impl Future<Output = Outcome> + Send + 'static,
) -> Outcome {
    let since = Instant::now();
    let outcome = future.await;
    let took = since.elapsed();
    if let Some(work) = work(&op) {
        metrics.pods.worked(work, took);
    }
    match &outcome {
        Outcome::Status(Ok(_)) => metrics.pods.told(took),
        Outcome::Sandbox(made) => metrics.pods.began(made.is_ok()),
        _ => {}
    }
    outcome
}

fn work(op: &Op) -> Option<Work> {
    match op {
        Op::Volumes | Op::Sandbox | Op::Start(_) => Some(Work::Create),
        Op::Status | Op::Resize(_) => Some(Work::Sync),
        Op::Stop(_) | Op::StopSandbox(_) | Op::Remove(_) | Op::RemoveSandbox(_) => Some(Work::Terminate),
        Op::Release | Op::Delete => Some(Work::Terminate),
        Op::Probe(..) => None,
    }
}

/// What metrics call a container of this kind.
pub(super) fn container_type(kind: ContainerKind) -> ContainerType {
    match kind {
        ContainerKind::Init | ContainerKind::Sidecar => ContainerType::Init,
        ContainerKind::Main => ContainerType::Container,
        ContainerKind::Ephemeral => ContainerType::Ephemeral,
    }
}
