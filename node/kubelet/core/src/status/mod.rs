//! The pod's status as the API should show it. Pure.

mod conditions;
mod containers;
mod patch;
mod phase;

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::model::{Observed, pod_ips};
use crate::plan::{Stage, is_resizing, past_deadline, stage};
use crate::pod::PodExt;
use crate::qos;

use containers::View;
pub use patch::status_patch;

/// Reason of a pod that the node ended because something is scarce.
pub(crate) const EVICTED: &str = "Evicted";

/// Reason of a pod that ended with the machine.
pub(crate) const TERMINATED: &str = "Terminated";

/// What a status says about the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Addresses of the node, the first of each family.
    pub host_ips: Vec<String>,
    /// The runtime's name, which begins container ids: `knode://…`.
    pub runtime_name: String,
    /// Whether mounts can be read-only with all below them.
    pub recursive_read_only: bool,
}

/// The status of `pod`. What other writers put into the API's status is kept.
pub fn status(pod: &Pod, observed: &Observed, node: &NodeFacts, now: Timestamp) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    if let Some(rejection) = &observed.rejected {
        return rejected(pod, observed, old, rejection, now);
    }
    let ended = stage(pod, observed, now) == Stage::Ended;
    let view = View {
        pod,
        observed,
        node,
        now,
        ended,
    };
    let (inits, mains, ephemerals) = (view.inits(), view.mains(), view.ephemerals());
    let evicted = observed.evicted.as_ref();
    let over = evicted.is_some()
        || past_deadline(pod, observed, now)
        || matches!(
            old.reason.as_deref(),
            Some("DeadlineExceeded" | EVICTED | TERMINATED)
        );
    let phase = match over {
        true => "Failed",
        false => phase::phase(pod, &inits, &mains, ended),
    };
    // Upstream takes the conditions before it gives containers up that never ran.
    let settled = if ended && mains.iter().any(containers::never_ran) {
        "Pending"
    } else {
        phase
    };
    let mut conditions = conditions::conditions(pod, observed, &inits, &mains, settled, now);
    let shown = phase::shown(pod, phase, ended);
    let failed = over && shown == "Failed";
    if let Some(eviction) = evicted.filter(|eviction| failed && eviction.for_others) {
        conditions::disrupted(pod, &mut conditions, &eviction.message, now);
    }
    let verdict = failed.then(|| why_over(observed, &old));
    let (reason, message) = verdict.unwrap_or((old.reason.clone(), old.message.clone()));
    let ips = addresses(pod, observed, node, now);
    PodStatus {
        observed_generation: pod.generation(),
        phase: Some(shown.to_owned()),
        reason,
        message,
        conditions: Some(conditions),
        host_ip: node.host_ips.first().cloned(),
        host_ips: Some(node.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: Some(start_time(pod, observed, now)),
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        container_statuses: (!mains.is_empty()).then_some(mains),
        ephemeral_container_statuses: (!ephemerals.is_empty()).then_some(ephemerals),
        qos_class: Some(qos::class(pod).as_str().to_owned()),
        resources: Some(resources(&in_force(pod, observed))),
        allocated_resources: some(qos::to_api(&qos::pod_total(pod, false))),
        ..old
    }
}

/// Reason and message of a pod that the node ended.
fn why_over(observed: &Observed, old: &PodStatus) -> (Option<String>, Option<String>) {
    let (reason, message) = match &observed.evicted {
        Some(eviction) => (eviction.cause.reason().to_owned(), eviction.message.clone()),
        // Written before a restart of the kubelet.
        None if old.reason.is_some() => return (old.reason.clone(), old.message.clone()),
        None => (
            crate::plan::DEADLINE.0.to_owned(),
            crate::plan::DEADLINE.1.to_owned(),
        ),
    };
    (Some(reason), Some(message))
}

fn rejected(
    pod: &Pod,
    observed: &Observed,
    old: PodStatus,
    rejection: &crate::model::Rejection,
    now: Timestamp,
) -> PodStatus {
    PodStatus {
        observed_generation: pod.generation(),
        phase: Some("Failed".to_owned()),
        reason: Some(rejection.reason.clone()),
        message: Some(format!("Pod was rejected: {}", rejection.message)),
        start_time: Some(start_time(pod, observed, now)),
        ..old
    }
}

fn start_time(pod: &Pod, observed: &Observed, now: Timestamp) -> Time {
    Time(crate::plan::start_time(pod, observed).unwrap_or(now))
}

/// The pod's addresses: those of its sandbox once something of it shows, else those that the API has.
fn addresses(pod: &Pod, observed: &Observed, node: &NodeFacts, now: Timestamp) -> Vec<String> {
    if pod.host_network() {
        return node.host_ips.clone();
    }
    let old = pod.api_status().and_then(|status| status.pod_ips.as_ref());
    let old: Vec<String> = old.into_iter().flatten().map(|ip| ip.ip.clone()).collect();
    let shows = !old.is_empty()
        || !observed.containers.is_empty()
        || observed.waits.values().any(|wait| wait.visible_from <= now);
    match observed.ready_sandbox() {
        Some(sandbox) if shows && !sandbox.ips.is_empty() => pod_ips(&sandbox.ips, &node.host_ips),
        _ => old,
    }
}

/// The pod with what its containers run with, which is not yet what they were granted while that is being changed.
fn in_force<'a>(pod: &'a Pod, observed: &Observed) -> Cow<'a, Pod> {
    if !is_resizing(pod, observed) {
        return Cow::Borrowed(pod);
    }
    let mut held = pod.clone();
    let spec = held.spec.get_or_insert_default();
    for record in observed.running() {
        if let Some(whole) = observed.applied_whole.get(&record.id) {
            spec.resources.clone_from(whole);
        }
        let mut all = spec
            .init_containers
            .iter_mut()
            .flatten()
            .chain(&mut spec.containers);
        let own = all.find(|container| container.name == record.name);
        if let Some((own, applied)) = own.zip(observed.applied.get(&record.id)) {
            own.resources = Some(applied.clone());
        }
    }
    Cow::Owned(held)
}

/// Pod-level resources.
fn resources(pod: &Pod) -> ResourceRequirements {
    ResourceRequirements {
        claims: None,
        limits: some(qos::to_api(&qos::pod_total(pod, true))),
        requests: some(qos::to_api(&qos::pod_total(pod, false))),
    }
}

fn some<K: Ord, V>(map: std::collections::BTreeMap<K, V>) -> Option<std::collections::BTreeMap<K, V>> {
    (!map.is_empty()).then_some(map)
}
