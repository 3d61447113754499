//! Whether a pod can run on a node. Pure; the order and the words are upstream's default profile.

mod affinity;
mod resources;
mod taints;
mod volumes;

pub(crate) use affinity::matches_term;
pub(crate) use taints::untolerated_preferences;
pub use volumes::Change;
pub(crate) use volumes::{CLAIMS, CLASSES, Claims, KINDS, Storage, VOLUMES, Wanted};

use crate::cluster::Occupied;
use crate::model::Pod;

/// Why a node cannot take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// One reason or more, in words.
    pub reasons: Vec<String>,
    /// Other pods leaving the node could change it.
    pub resolvable: bool,
}

impl Refusal {
    fn fixed(reason: &str) -> Self {
        Self {
            reasons: vec![reason.to_owned()],
            resolvable: false,
        }
    }
}

/// The first filter that refuses, or nothing when the node can take the pod.
pub(crate) fn refusal(pod: &Pod, on: &Occupied) -> Option<Refusal> {
    if on.node.unschedulable && !taints::tolerates_unschedulable(pod) {
        return Some(Refusal::fixed("node(s) were unschedulable"));
    }
    if taints::untolerated(pod, &on.node).is_some() {
        return Some(Refusal::fixed("node(s) had untolerated taint(s)"));
    }
    if !affinity::matches(pod, &on.node) {
        return Some(Refusal::fixed(
            "node(s) didn't match Pod's node affinity/selector",
        ));
    }
    if pod
        .ports
        .iter()
        .any(|port| on.ports.iter().any(|taken| taken.clashes(port)))
    {
        let reason = "node(s) didn't have free ports for the requested pod ports";
        return Some(Refusal {
            reasons: vec![reason.to_owned()],
            resolvable: true,
        });
    }
    resources::refusal(pod, on)
}

/// How the pod's claims stand on a node that can take it otherwise, or why it cannot have their volumes.
pub(crate) fn claims(storage: &Storage, wanted: &Wanted<'_>, on: &Occupied) -> Result<Claims, Refusal> {
    storage.on_node(wanted, &on.node)
}
