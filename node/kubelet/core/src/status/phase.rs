//! The pod's phase (upstream: `getPhase` in `pkg/kubelet/kubelet_pods.go`).

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::pod::{ContainerKind, PodExt, RestartPolicy, init_kind};

/// The phase that the containers' statuses amount to; `ended`: nothing of the pod will run again.
pub(super) fn phase(
    pod: &Pod,
    inits: &[ContainerStatus],
    mains: &[ContainerStatus],
    ended: bool,
) -> &'static str {
    let init = count_inits(pod, inits);
    if init.failed {
        return "Failed";
    }
    let count = count(mains);
    let begun = count.running + count.stopped > 0;
    if (init.pending && !begun) || (count.waiting > 0 && !ended) {
        return if ended { "Failed" } else { "Pending" };
    }
    if count.running > 0 {
        return "Running";
    }
    if count.stopped == 0 {
        return if ended { "Failed" } else { "Pending" };
    }
    if init.sidecar_runs && !ended {
        return "Running";
    }
    let good = count.waiting == 0 && count.stopped == count.succeeded;
    match (ended || over(pod, mains), good) {
        (true, true) => "Succeeded",
        (true, false) => "Failed",
        (false, _) => "Running",
    }
}

/// Whether none of the containers, which have all ended, will be started again.
fn over(pod: &Pod, mains: &[ContainerStatus]) -> bool {
    let ends = pod.main_containers().iter().zip(mains);
    ends.into_iter().all(|(container, status)| {
        let end = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        end.is_some_and(|end| match pod.policy_after(container, end.exit_code) {
            RestartPolicy::Always => false,
            RestartPolicy::OnFailure => end.exit_code == 0,
            RestartPolicy::Never => true,
        })
    })
}

/// The phase to show: the last one may only be shown when nothing runs any more, and is then never left.
pub(super) fn shown<'a>(pod: &'a Pod, phase: &'a str, ended: bool) -> &'a str {
    let old = pod.api_phase();
    let terminal = matches!(phase, "Succeeded" | "Failed");
    if pod.is_terminal() || (terminal && !ended) {
        old
    } else {
        phase
    }
}

struct Inits {
    pending: bool,
    failed: bool,
    sidecar_runs: bool,
}

fn count_inits(pod: &Pod, inits: &[ContainerStatus]) -> Inits {
    let mut all = Inits {
        pending: false,
        failed: false,
        sidecar_runs: false,
    };
    for (container, status) in pod.init_containers().iter().zip(inits) {
        let state = status.state.as_ref();
        let running = state.is_some_and(|state| state.running.is_some());
        if init_kind(container) == ContainerKind::Sidecar {
            all.sidecar_runs |= running;
            all.pending |= !running && status.container_id.is_none();
            continue;
        }
        let ended = state.and_then(|state| state.terminated.as_ref());
        let last = status
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        match (running, ended.or(last)) {
            (false, Some(end)) if end.exit_code != 0 => {
                all.failed |= pod.policy_after(container, end.exit_code) == RestartPolicy::Never;
                all.pending = true;
            }
            (false, Some(_)) => {}
            _ => all.pending = true,
        }
    }
    all
}

#[derive(Default)]
struct Count {
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

fn count(mains: &[ContainerStatus]) -> Count {
    let mut count = Count::default();
    for status in mains {
        let state = status.state.as_ref();
        if state.is_some_and(|state| state.running.is_some()) {
            count.running += 1;
        } else if let Some(end) = state.and_then(|state| state.terminated.as_ref()) {
            count.stopped += 1;
            count.succeeded += usize::from(end.exit_code == 0);
        } else if status
            .last_state
            .as_ref()
            .is_some_and(|last| last.terminated.is_some())
        {
            count.stopped += 1;
        } else {
            count.waiting += 1;
        }
    }
    count
}
