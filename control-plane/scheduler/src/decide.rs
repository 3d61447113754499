//! Where a pod goes. Pure.

use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::filter::{Change, Claims, Refusal, claims, refusal};
use crate::model::Pod;
use crate::{message, score};

/// The outcome for one pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It goes to this node.
    Bind(String),
    /// No node can take it, for the reasons in the message.
    Unschedulable(String),
    /// It will go to a node where its claims get volumes by these changes; with none of them that is under way.
    Claims(Vec<Change>),
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
    let wanted = match cluster.storage.wanted(pod) {
        Ok(wanted) => wanted,
        Err(why) => return Verdict::Unschedulable(message::for_all(total, &why, pod.never_preempts)),
    };
    let mut refusals: Vec<Refusal> = Vec::new();
    let mut fitting = Vec::new();
    let mut open = BTreeMap::new();
    for on in cluster.nodes() {
        let stands = match refusal(pod, on) {
            Some(refusal) => Err(refusal),
            None => claims(&cluster.storage, &wanted, on),
        };
        match stands {
            Err(refusal) => refusals.push(refusal),
            Ok(stands) => {
                fitting.push(on);
                if let Claims::Open(changes) = stands {
                    open.insert(on.node.name.as_str(), changes);
                }
            }
        }
    }
    match score::best(pod, &fitting) {
        Some(name) => match open.remove(name) {
            Some(changes) => Verdict::Claims(changes),
            None => Verdict::Bind(name.to_owned()),
        },
        None => Verdict::Unschedulable(message::unschedulable(&refusals, pod.never_preempts)),
    }
}

#[cfg(test)]
mod tests;
