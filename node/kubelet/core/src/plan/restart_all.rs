//! Starting a whole pod anew in place: the end of a container to which its rule answers `RestartAllContainers` (upstream:
//! KEP-5532, `ShouldAllContainersRestart` in `pkg/kubelet/container/helpers.go`).
//!
//! Whatever runs is stopped, then all containers count as never started in this sandbox: init containers run again, in
//! order. Containers for debugging stay as they are.

use k8s_openapi::api::core::v1::Pod;

use super::action::Action;
use crate::model::{ContainerRecord, ContainerState, Observed};
use crate::pod::{ContainerKind, PodExt, RESTART_ALL};

/// Whether the pod is being started anew; nothing else is started meanwhile.
pub(super) fn plan(pod: &Pod, observed: &Observed, out: &mut Vec<Action>) -> bool {
    if !is_under_way(pod, observed) {
        return false;
    }
    let mut waiting = observed.starting();
    for record in observed.running().filter(|record| concerns(pod, record)) {
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
    if !waiting {
        out.push(Action::Reset);
    }
    true
}

/// Whether a container has ended in a way that starts all of them anew, which has not happened yet.
pub(crate) fn is_under_way(pod: &Pod, observed: &Observed) -> bool {
    pod.all_containers().any(|(_, container)| {
        let record = observed.current(&container.name);
        record
            .filter(|record| record.state == ContainerState::Exited)
            .is_some_and(|record| pod.rule_after(container, record.exit_code) == Some(RESTART_ALL))
    })
}

/// Ids of the containers that count as never started from now on.
pub(crate) fn reset<'a>(pod: &'a Pod, observed: &'a Observed) -> impl Iterator<Item = String> + 'a {
    let all = observed.containers.iter();
    all.filter(move |record| concerns(pod, record))
        .map(|record| record.id.clone())
}

fn concerns(pod: &Pod, record: &ContainerRecord) -> bool {
    let kind = pod.container(&record.name).map(|(kind, _)| kind);
    kind.is_some_and(|kind| kind != ContainerKind::Ephemeral)
}
