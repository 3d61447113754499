//! Which of the nodes that can take a pod is best. Pure.
//!
//! The sum of upstream's scores, each 0 to 100, by its weights: least allocated and balanced allocation (1 each),
//! preferred node affinity (2), taints that would rather not (3).

use crate::cluster::Occupied;
use crate::filter::{matches_term, untolerated_preferences};
use crate::model::Pod;

const BEST: f64 = 100.0;

/// The best node's name; of equals the one with fewer pods, then the first by name.
pub(crate) fn best<'a>(pod: &Pod, nodes: &[&'a Occupied]) -> Option<&'a str> {
    if let [only] = nodes {
        return Some(&only.node.name);
    }
    let preferred = normalized(nodes, |on| preference(pod, on));
    let shunned = normalized(nodes, |on| untolerated_preferences(pod, &on.node) as f64);
    let rate = |position: usize, on: &Occupied| {
        let (cpu, memory) = (fraction(pod, on, "cpu"), fraction(pod, on, "memory"));
        let least = ((1.0 - cpu) + (1.0 - memory)) / 2.0 * BEST;
        let balanced = (1.0 - (cpu - memory).abs() / 2.0) * BEST;
        least + balanced + 2.0 * preferred[position] + 3.0 * (BEST - shunned[position])
    };
    let rated = nodes
        .iter()
        .enumerate()
        .map(|(position, on)| (rate(position, on), *on));
    let better = |one: &(f64, &Occupied), other: &(f64, &Occupied)| {
        one.0
            .total_cmp(&other.0)
            .then(other.1.pods.cmp(&one.1.pods))
            .then(other.1.node.name.cmp(&one.1.node.name))
    };
    rated.max_by(better).map(|(_, on)| on.node.name.as_str())
}

/// The share of a resource that would be taken with the pod there.
fn fraction(pod: &Pod, on: &Occupied, resource: &str) -> f64 {
    let room = on.node.allocatable.get(resource);
    if room <= 0 {
        return 1.0;
    }
    let taken = on.scored.get(resource) + pod.scored.get(resource);
    (taken as f64 / room as f64).min(1.0)
}

fn preference(pod: &Pod, on: &Occupied) -> f64 {
    let affinity = pod.affinity.as_ref();
    let terms = affinity.and_then(|affinity| {
        affinity
            .preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let fitting = terms
        .into_iter()
        .flatten()
        .filter(|term| matches_term(&term.preference, &on.node));
    fitting.map(|term| f64::from(term.weight)).sum()
}

/// Values stretched so that the largest is 100.
fn normalized(nodes: &[&Occupied], value: impl Fn(&Occupied) -> f64) -> Vec<f64> {
    let values: Vec<f64> = nodes.iter().map(|on| value(on)).collect();
    let largest = values.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return values;
    }
    values.iter().map(|value| value / largest * BEST).collect()
}
