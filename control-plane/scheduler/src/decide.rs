//! Where a pod goes. Pure.

use crate::cluster::Cluster;
use crate::filter::{Refusal, refusal};
use crate::model::Pod;
use crate::{message, score};

/// The outcome for one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to this node.
    Bind(String),
    /// No node can take it, for the reasons in the message.
    Unschedulable(String),
}

/// Where `pod` goes in `cluster`.
pub fn decide(pod: &Pod, cluster: &Cluster) -> Verdict {
    let total = cluster.nodes().len();
    if total == 0 {
        return Verdict::Unschedulable(message::NO_NODES.to_owned());
    }
    if let Some(what) = pod.unsupported {
        return Verdict::Unschedulable(message::unsupported(total, what));
    }
    let mut refusals: Vec<Refusal> = Vec::new();
    let mut fitting = Vec::new();
    for on in cluster.nodes() {
        match refusal(pod, on) {
            Some(refusal) => refusals.push(refusal),
            None => fitting.push(on),
        }
    }
    match score::best(pod, &fitting) {
        Some(name) => Verdict::Bind(name.to_owned()),
        None => Verdict::Unschedulable(message::unschedulable(&refusals, pod.never_preempts)),
    }
}

#[cfg(test)]
mod tests;
