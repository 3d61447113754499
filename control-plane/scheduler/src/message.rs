//! Why no node can take a pod, in upstream's words. Pure.

use std::collections::BTreeMap;

use crate::filter::Refusal;

/// The message when there are no nodes at all.
pub(crate) const NO_NODES: &str = "no nodes available to schedule pods";

/// The message of the PodScheduled condition and of the event, out of every node's refusal.
pub(crate) fn unschedulable(refusals: &[Refusal], never_preempts: bool) -> String {
    let total = refusals.len();
    let reasons = refusals
        .iter()
        .flat_map(|refusal| refusal.reasons.iter().map(String::as_str));
    let preemption = match never_preempts {
        true => "preemption: not eligible due to preemptionPolicy=Never.".to_owned(),
        false => format!(
            "no new claims to deallocate, preemption: {}",
            counted(total, refusals.iter().map(victims))
        ),
    };
    format!("{} {preemption}", counted(total, reasons))
}

/// The message when what stands against the pod is the same for all nodes.
pub(crate) fn for_all(total: usize, reason: &str, never_preempts: bool) -> String {
    let refusal = Refusal {
        reasons: Vec::new(),
        resolvable: false,
    };
    let all = vec![refusal; total];
    let preemption = unschedulable(&all, never_preempts);
    let (_, preemption) = preemption.split_once(". ").unwrap_or_default();
    format!("0/{total} nodes are available: {reason}. {preemption}")
}

/// The message for a pod that asks for what this scheduler does not do.
pub(crate) fn unsupported(total: usize, what: &str) -> String {
    counted(
        total,
        std::iter::repeat_n(format!("{what} not supported by this scheduler").as_str(), total),
    )
}

fn victims(refusal: &Refusal) -> &'static str {
    match refusal.resolvable {
        true => "No preemption victims found for incoming pod",
        false => "Preemption is not helpful for scheduling",
    }
}

/// `0/3 nodes are available: 1 this, 2 that.`, the parts sorted as text.
fn counted<'a>(total: usize, reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<String> = counts
        .into_iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    parts.sort_unstable();
    format!("0/{total} nodes are available: {}.", parts.join(", "))
}
