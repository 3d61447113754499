//! The pod's conditions (upstream: `pkg/kubelet/status/generate.go`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::model::Observed;
use crate::plan::{is_resizing, is_under_way};
use crate::pod::{ContainerKind, PodExt, RESTART_ALL, init_kind};
use crate::resize::Verdict as Granted;

/// Conditions that the kubelet writes, in its order.
const OWN: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// Conditions about other resources, which are there only while there is something to say.
const RESIZE: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// Says that a container's end starts all of them anew.
const ANEW: &str = "AllContainersRestarting";

/// What a condition says.
#[derive(Clone, Default)]
struct Verdict {
    good: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn good() -> Self {
        Self {
            good: true,
            ..Self::default()
        }
    }

    fn bad(reason: &'static str, message: Option<String>) -> Self {
        Self {
            good: false,
            reason: Some(reason),
            message,
        }
    }
}

/// Foreign conditions first, then the kubelet's own.
pub(super) fn conditions(
    pod: &Pod,
    observed: &Observed,
    inits: &[ContainerStatus],
    mains: &[ContainerStatus],
    phase: &str,
    now: Timestamp,
) -> Vec<PodCondition> {
    let old = pod
        .api_status()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let network = observed
        .ready_sandbox()
        .is_some_and(|one| pod.host_network() || !one.ips.is_empty());
    let containers = containers_ready(pod, inits, mains, phase);
    let verdicts = [
        Verdict {
            good: network,
            ..Verdict::default()
        },
        initialized(pod, inits, mains, phase),
        ready(pod, old, &containers),
        containers,
        Verdict::good(),
    ];
    let foreign = old
        .iter()
        .filter(|condition| {
            let kind = condition.type_.as_str();
            !OWN.contains(&kind) && !RESIZE.contains(&kind) && kind != ANEW
        })
        .cloned();
    let resize = resize(pod, observed)
        .into_iter()
        .map(|(kind, verdict)| looked_at(condition(pod, old, kind, verdict, now), old, now));
    let own = OWN
        .into_iter()
        .zip(verdicts)
        .map(|(kind, verdict)| condition(pod, old, kind, verdict, now));
    let anew = beginning_anew(pod, observed, phase).map(|verdict| PodCondition {
        observed_generation: None,
        ..condition(pod, old, ANEW, verdict, now)
    });
    foreign.chain(resize).chain(own).chain(anew).collect()
}

/// Whether the pod is starting all its containers anew, if one of them can bring that about.
fn beginning_anew(pod: &Pod, observed: &Observed, phase: &str) -> Option<Verdict> {
    let mut rules = pod
        .all_containers()
        .flat_map(|(_, container)| container.restart_policy_rules.iter().flatten());
    if !rules.any(|rule| rule.action == RESTART_ALL) {
        return None;
    }
    Some(match phase {
        "Succeeded" => Verdict::bad("PodCompleted", None),
        "Failed" => Verdict::bad("PodFailed", None),
        _ if is_under_way(pod, observed) => Verdict {
            good: true,
            reason: Some("RestartAllContainersStarted"),
            message: Some("container exited with restart policy rule".to_owned()),
        },
        _ => Verdict::default(),
    })
}

/// Says that the node ended the pod, and why.
pub(super) fn disrupted(pod: &Pod, conditions: &mut Vec<PodCondition>, message: &str, now: Timestamp) {
    const KIND: &str = "DisruptionTarget";
    let verdict = Verdict {
        good: true,
        reason: Some("TerminationByKubelet"),
        message: Some(message.to_owned()),
    };
    let new = condition(pod, conditions, KIND, verdict, now);
    conditions.retain(|condition| condition.type_ != KIND);
    conditions.insert(0, new);
}

fn condition(pod: &Pod, old: &[PodCondition], kind: &str, verdict: Verdict, now: Timestamp) -> PodCondition {
    let status = if verdict.good { "True" } else { "False" };
    let old = old.iter().find(|condition| condition.type_ == kind);
    let since = old
        .filter(|old| old.status == status)
        .and_then(|old| old.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        observed_generation: pod.generation(),
        last_probe_time: old.and_then(|old| old.last_probe_time.clone()),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        reason: verdict.reason.map(ToOwned::to_owned),
        message: verdict.message,
    }
}

/// Conditions about other resources tell when they came to be what they are.
fn looked_at(new: PodCondition, old: &[PodCondition], now: Timestamp) -> PodCondition {
    let same = |old: &&PodCondition| {
        (&old.type_, &old.reason, &old.message) == (&new.type_, &new.reason, &new.message)
    };
    let known = old.iter().find(same).and_then(|old| old.last_probe_time.clone());
    PodCondition {
        last_probe_time: Some(known.unwrap_or(Time(now))),
        ..new
    }
}

/// What is to be said about a change of resources.
fn resize(pod: &Pod, observed: &Observed) -> Vec<(&'static str, Verdict)> {
    let holds = |reason, message| Verdict {
        good: true,
        reason,
        message,
    };
    let verdict = observed.wish.as_ref().and_then(|wish| wish.verdict.as_ref());
    let pending = match verdict {
        None | Some(Granted::Granted) => None,
        Some(Granted::Deferred(why)) => Some(holds(Some("Deferred"), Some(why.clone()))),
        Some(Granted::Infeasible(why)) => Some(holds(Some("Infeasible"), Some(why.clone()))),
    };
    let under_way = is_resizing(pod, observed);
    let failed = observed.resize_failed.as_ref().map(|(_, why)| why.clone());
    let reason = failed.as_ref().map(|_| "Error");
    let progress = under_way.then(|| holds(reason, failed));
    let all = RESIZE.into_iter().zip([pending, progress]);
    all.filter_map(|(kind, verdict)| Some((kind, verdict?))).collect()
}

fn containers_ready(pod: &Pod, inits: &[ContainerStatus], mains: &[ContainerStatus], phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::bad("PodCompleted", None),
        "Failed" => return Verdict::bad("PodFailed", None),
        _ => {}
    }
    let sidecars = pod.init_containers().iter().zip(inits);
    let sidecars = sidecars.filter(|(container, _)| init_kind(container) == ContainerKind::Sidecar);
    let all = sidecars.map(|(_, status)| status).chain(mains);
    let unready: Vec<&str> = all
        .filter(|status| !status.ready)
        .map(|status| status.name.as_str())
        .collect();
    match unready.is_empty() {
        true => Verdict::good(),
        false => {
            let message = format!("containers with unready status: [{}]", unready.join(" "));
            Verdict::bad("ContainersNotReady", Some(message))
        }
    }
}

fn ready(pod: &Pod, old: &[PodCondition], containers: &Verdict) -> Verdict {
    if !containers.good {
        return containers.clone();
    }
    let gates = pod
        .spec()
        .and_then(|spec| spec.readiness_gates.as_deref())
        .unwrap_or_default();
    let mut open = Vec::new();
    for gate in gates {
        let kind = &gate.condition_type;
        match old.iter().find(|condition| condition.type_ == *kind) {
            None => open.push(format!(
                "corresponding condition of pod readiness gate \"{kind}\" does not exist."
            )),
            Some(condition) if condition.status != "True" => open.push(format!(
                "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                condition.status
            )),
            Some(_) => {}
        }
    }
    match open.is_empty() {
        true => Verdict::good(),
        false => Verdict::bad("ReadinessGatesNotReady", Some(open.join(", "))),
    }
}

fn initialized(pod: &Pod, inits: &[ContainerStatus], mains: &[ContainerStatus], phase: &str) -> Verdict {
    if phase == "Succeeded" {
        return Verdict {
            reason: Some("PodCompleted"),
            ..Verdict::good()
        };
    }
    let begun = mains.iter().any(|status| status.container_id.is_some());
    if begun {
        return Verdict::good();
    }
    let done = |kind: ContainerKind, status: &ContainerStatus| match kind {
        ContainerKind::Sidecar => status.started == Some(true),
        _ => status.ready,
    };
    let all = pod.init_containers().iter().zip(inits);
    let open = all.filter(|(container, status)| !done(init_kind(container), status));
    let open: Vec<&str> = open.map(|(_, status)| status.name.as_str()).collect();
    match open.is_empty() {
        true => Verdict::good(),
        false => {
            let message = format!("containers with incomplete status: [{}]", open.join(" "));
            Verdict::bad("ContainersNotInitialized", Some(message))
        }
    }
}
