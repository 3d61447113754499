//! A pod as the scheduler sees it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self as core, Container, NodeAffinity, PodSpec, Toleration};
use knode_client::ObjectKey;

use super::Resources;
use super::resources::{requests, scored};

/// A port of the node that a pod takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Address; `0.0.0.0` for all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Number.
    pub port: i32,
}

impl HostPort {
    /// True when both cannot be taken on one node.
    pub fn clashes(&self, other: &Self) -> bool {
        let same_address = self.ip == other.ip || self.ip == "0.0.0.0" || other.ip == "0.0.0.0";
        same_address && self.protocol == other.protocol && self.port == other.port
    }
}

/// The pod's PodScheduled condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// The generation that it speaks of.
    pub observed_generation: Option<i64>,
}

/// What scheduling needs to know of a pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Its uid.
    pub uid: String,
    /// Its version, for event references.
    pub resource_version: String,
    /// The generation of its specification.
    pub generation: Option<i64>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Higher goes first.
    pub priority: i32,
    /// It must not preempt others.
    pub never_preempts: bool,
    /// The node that it is bound to.
    pub node: Option<String>,
    /// It is for this scheduler, has no gates, and is not ending.
    pub wanted: bool,
    /// It has ended: it takes nothing of its node any more.
    pub finished: bool,
    /// What it asks for.
    pub requests: Resources,
    /// What it counts as in scores.
    pub scored: Resources,
    /// Ports of the node that it takes.
    pub ports: Vec<HostPort>,
    /// Taints that it bears.
    pub tolerations: Vec<Toleration>,
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Its node affinity.
    pub affinity: Option<NodeAffinity>,
    /// The claims of its volumes, and whether each is made for it alone.
    pub claims: Vec<(String, bool)>,
    /// A requirement that this scheduler cannot fulfil.
    pub unsupported: Option<&'static str>,
    /// Its PodScheduled condition.
    pub condition: Option<Condition>,
}

impl Pod {
    /// Takes out of an API object what is needed.
    pub fn of(pod: &core::Pod) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let meta = &pod.metadata;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let gated = spec
            .scheduling_gates
            .as_ref()
            .is_some_and(|gates| !gates.is_empty());
        let ours = matches!(spec.scheduler_name.as_deref(), None | Some("" | crate::NAME));
        let affinity = spec.affinity.as_ref();
        Self {
            key: ObjectKey::of(pod),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            generation: meta.generation,
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            priority: spec.priority.unwrap_or_default(),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            node: spec.node_name.clone().filter(|name| !name.is_empty()),
            wanted: ours && !gated && meta.deletion_timestamp.is_none(),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            requests: requests(spec),
            scored: scored(spec),
            ports: host_ports(spec),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            affinity: affinity.and_then(|affinity| affinity.node_affinity.clone()),
            claims: claims(meta.name.as_deref().unwrap_or_default(), spec),
            unsupported: unsupported(spec),
            condition: condition(pod),
        }
    }

    /// It waits for a node.
    pub fn is_pending(&self) -> bool {
        self.node.is_none() && self.wanted && !self.finished
    }

    /// It takes part of its node.
    pub fn is_assigned(&self) -> bool {
        self.node.is_some() && !self.finished
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let ip = port.host_ip.clone().filter(|ip| !ip.is_empty() && ip != "::");
        Some(HostPort {
            ip: ip.unwrap_or_else(|| "0.0.0.0".to_owned()),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: number,
        })
    });
    taken.collect()
}

fn claims(pod: &str, spec: &PodSpec) -> Vec<(String, bool)> {
    let volumes = spec.volumes.iter().flatten();
    let claims = volumes.filter_map(|volume| match &volume.persistent_volume_claim {
        Some(claim) => Some((claim.claim_name.clone(), false)),
        None => volume
            .ephemeral
            .as_ref()
            .map(|_| (format!("{pod}-{}", volume.name), true)),
    });
    claims.collect()
}

fn unsupported(spec: &PodSpec) -> Option<&'static str> {
    let affinity = spec.affinity.as_ref();
    let pods = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let against = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = |terms: Option<&Vec<core::PodAffinityTerm>>| terms.is_some_and(|terms| !terms.is_empty());
    if required(pods.and_then(|pods| pods.required_during_scheduling_ignored_during_execution.as_ref())) {
        return Some("required inter-pod affinity");
    }
    if required(against.and_then(|pods| pods.required_during_scheduling_ignored_during_execution.as_ref())) {
        return Some("required inter-pod anti-affinity");
    }
    let spread = spec.topology_spread_constraints.iter().flatten();
    if spread
        .clone()
        .any(|constraint| constraint.when_unsatisfiable == "DoNotSchedule")
    {
        return Some("required topology spread");
    }
    spec.resource_claims
        .as_ref()
        .is_some_and(|claims| !claims.is_empty())
        .then_some("resource claims")
}

fn condition(pod: &core::Pod) -> Option<Condition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled")?;
    Some(Condition {
        status: found.status.clone(),
        reason: found.reason.clone().unwrap_or_default(),
        message: found.message.clone().unwrap_or_default(),
        observed_generation: found.observed_generation,
    })
}
