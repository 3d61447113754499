//! Which of its three stages a pod is in: it should run, it should end, it has ended.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::model::{ContainerRecord, Observed};
use crate::pod::{ContainerKind, PodExt, RestartPolicy};

/// Stage of a pod's life on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It should run.
    Active,
    /// Whatever runs of it should end.
    Ending,
    /// Nothing of it runs any more, for ever.
    Ended,
}

/// The pod's stage.
pub fn stage(pod: &Pod, observed: &Observed, now: Timestamp) -> Stage {
    if !must_end(pod, observed, now) {
        return Stage::Active;
    }
    let alive = observed.running().next().is_some()
        || observed.sandboxes.iter().any(|sandbox| sandbox.ready)
        || observed.starting();
    if alive { Stage::Ending } else { Stage::Ended }
}

fn must_end(pod: &Pod, observed: &Observed, now: Timestamp) -> bool {
    observed.removed
        || observed.rejected.is_some()
        || observed.evicted.is_some()
        || pod.is_deleted()
        || pod.is_terminal()
        || past_deadline(pod, observed, now)
        || finished(pod, observed)
}

/// Whether the pod has run longer than it may.
pub fn past_deadline(pod: &Pod, observed: &Observed, now: Timestamp) -> bool {
    start_time(pod, observed)
        .and_then(|start| pod.deadline(start))
        .is_some_and(|deadline| now >= deadline)
}

/// When the pod began on this node.
pub(crate) fn start_time(pod: &Pod, observed: &Observed) -> Option<Timestamp> {
    let known = pod
        .api_status()
        .and_then(|status| status.start_time.as_ref())
        .map(|time| time.0);
    known.or(observed.start_time)
}

/// Whether the container will not be started again after this end.
pub(crate) fn done_for_good(policy: RestartPolicy, record: &ContainerRecord) -> bool {
    match policy {
        RestartPolicy::Always => false,
        RestartPolicy::OnFailure => record.succeeded(),
        RestartPolicy::Never => record.state == crate::model::ContainerState::Exited,
    }
}

/// Whether all containers have run to their end, or an init container failed for good.
fn finished(pod: &Pod, observed: &Observed) -> bool {
    let mains = pod.main_containers();
    let done = |container: &Container| {
        let record = observed.standing(&container.name);
        record.is_some_and(|record| done_for_good(pod.policy_after(container, record.exit_code), record))
    };
    if !mains.is_empty() && mains.iter().all(done) {
        return true;
    }
    let begun = mains
        .iter()
        .any(|container| observed.current(&container.name).is_some());
    let failed = |container: &Container| {
        let record = observed.current(&container.name);
        record.is_some_and(|record| {
            done_for_good(pod.policy_after(container, record.exit_code), record) && !record.succeeded()
        })
    };
    let mut inits = pod
        .init_containers()
        .iter()
        .filter(|one| crate::pod::init_kind(one) == ContainerKind::Init);
    !begun && inits.any(failed)
}
