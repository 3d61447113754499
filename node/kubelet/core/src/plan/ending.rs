//! A pod that should end: containers first, sidecars after the others and in reverse, the sandbox last.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knode_client::EventKind;

use super::action::{Action, PodEvent};
use super::stage::past_deadline;
use crate::model::{ContainerRecord, Observed, Op};
use crate::pod::{ContainerKind, PodExt};

/// Reason and message of a pod that ran too long.
pub(crate) const DEADLINE: (&str, &str) = (
    "DeadlineExceeded",
    "Pod was active on the node longer than the specified deadline",
);

pub(super) fn plan(pod: &Pod, observed: &Observed, now: Timestamp, out: &mut Vec<Action>) {
    if past_deadline(pod, observed, now)
        && !observed.deadline_noted
        && !observed.removed
        && !pod.is_terminal()
    {
        out.push(Action::Event(PodEvent::pod(
            EventKind::Normal,
            DEADLINE.0,
            DEADLINE.1,
        )));
        out.push(Action::NoteDeadline);
    }
    let targets = targets(pod, observed);
    for record in &targets {
        stop(pod, observed, record, out);
    }
    if !targets.is_empty() || observed.starting() {
        return;
    }
    for sandbox in observed.sandboxes.iter().filter(|sandbox| sandbox.ready) {
        if !observed.busy.contains(&Op::StopSandbox(sandbox.id.clone())) {
            out.push(Action::StopSandbox {
                id: sandbox.id.clone(),
            });
        }
    }
}

/// What is to be stopped now.
fn targets<'a>(pod: &Pod, observed: &'a Observed) -> Vec<&'a ContainerRecord> {
    let kind = |record: &ContainerRecord| pod.container(&record.name).map(|(kind, _)| kind);
    let (sidecars, others): (Vec<_>, Vec<_>) = observed
        .running()
        .partition(|record| kind(record) == Some(ContainerKind::Sidecar));
    if !others.is_empty() {
        return others;
    }
    let place = |record: &ContainerRecord| {
        pod.init_containers()
            .iter()
            .position(|one| one.name == record.name)
    };
    sidecars
        .into_iter()
        .max_by_key(|record| place(record))
        .into_iter()
        .collect()
}

/// Seconds that containers may take to end: an eviction shortens what a deletion gives, and both what the pod asks for.
fn grace(pod: &Pod, observed: &Observed) -> i64 {
    let evicted = observed.evicted.as_ref().map(|eviction| eviction.grace);
    let Some(limit) = evicted.filter(|limit| *limit > 0) else {
        return pod.grace_seconds();
    };
    let deleted = pod
        .metadata
        .deletion_grace_period_seconds
        .filter(|_| pod.is_deleted());
    deleted.map_or(limit, |deleted| deleted.min(limit)).max(1)
}

fn stop(pod: &Pod, observed: &Observed, record: &ContainerRecord, out: &mut Vec<Action>) {
    let grace = grace(pod, observed);
    // A second deletion may shorten the time that the first one gave.
    if observed
        .stops
        .get(&record.id)
        .is_some_and(|under_way| under_way.grace <= grace)
    {
        return;
    }
    out.push(Action::Stop {
        id: record.id.clone(),
        container: record.name.clone(),
        grace,
        message: format!("Stopping container {}", record.name),
    });
}
