//! A pod that should run: volumes, sandbox, containers.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::action::Action;
use super::{garbage, order, probing, resizing, restart_all, stage};
use crate::model::{Observed, Op, VolumeState};
use crate::pod::PodExt;

pub(super) fn plan(pod: &Pod, observed: &Observed, now: Timestamp, out: &mut Vec<Action>) {
    if let Some(deadline) = stage::start_time(pod, observed).and_then(|start| pod.deadline(start)) {
        out.push(Action::WakeAt(deadline));
    }
    probing::plan(pod, observed, now, out);
    resizing::plan(pod, observed, now, out);
    garbage::plan(pod, observed, out);
    if volumes(observed, now, out)
        && sandbox(pod, observed, now, out)
        && !restart_all::plan(pod, observed, out)
    {
        order::plan(pod, observed, now, out);
    }
}

/// Whether the volumes are there.
fn volumes(observed: &Observed, now: Timestamp, out: &mut Vec<Action>) -> bool {
    let (ready, due) = match observed.volumes {
        VolumeState::Missing => (false, Some(now)),
        VolumeState::Failed { retry_at, .. } => (false, Some(retry_at)),
        VolumeState::Ready { refresh_at } => (true, refresh_at),
    };
    match due {
        Some(due) if due > now => out.push(Action::WakeAt(due)),
        Some(_) if !observed.busy.contains(&Op::Volumes) => out.push(Action::MountVolumes),
        _ => {}
    }
    ready
}

/// Whether there is a sandbox for containers to go into.
fn sandbox(pod: &Pod, observed: &Observed, now: Timestamp, out: &mut Vec<Action>) -> bool {
    if observed.ready_sandbox().is_some() {
        return true;
    }
    // The containers of a sandbox that was lost go with it.
    let mut waiting = false;
    for record in observed.running() {
        waiting = true;
        if !observed.stops.contains_key(&record.id) {
            out.push(Action::Stop {
                id: record.id.clone(),
                container: record.name.clone(),
                grace: pod.grace_seconds(),
                message: format!("Stopping container {}", record.name),
            });
        }
    }
    if waiting || observed.starting() {
        return false;
    }
    match observed.sandbox_retry {
        Some((due, _)) if due > now => out.push(Action::WakeAt(due)),
        _ => out.push(Action::RunSandbox {
            attempt: observed.sandboxes.first().map_or(0, |last| last.attempt + 1),
        }),
    }
    false
}
