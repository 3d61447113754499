//! One hint out of those of all resources (upstream: `topologymanager/policy.go`).

use super::policy::NumaInfo;
use super::{Hints, NumaMask, TopologyHint};

/// The hints of each resource of each provider: at least one each.
pub(super) fn lists(providers: &[Hints]) -> Vec<Vec<TopologyHint>> {
    let of_resource = |hints: &Option<Vec<TopologyHint>>| match hints {
        None => vec![TopologyHint::ANY],
        Some(hints) if hints.is_empty() => vec![TopologyHint {
            affinity: None,
            preferred: false,
        }],
        Some(hints) => hints.clone(),
    };
    let of_provider = |hints: &Hints| match hints.is_empty() {
        true => vec![vec![TopologyHint::ANY]],
        false => hints.values().map(of_resource).collect(),
    };
    providers.iter().flat_map(of_provider).collect()
}

/// The best combination of one hint of each list.
pub(super) fn merge(numa: &NumaInfo, lists: &[Vec<TopologyHint>]) -> TopologyHint {
    let merger = Merger {
        numa,
        all: numa.all(),
        best_count: widest_minimum(lists),
    };
    let mut best = None;
    merger.walk(lists, TopologyHint::ANY, &mut best);
    best.unwrap_or(TopologyHint::new(merger.all, false))
}

/// The largest of the smallest numbers of nodes that each resource can do with.
fn widest_minimum(lists: &[Vec<TopologyHint>]) -> u32 {
    let least = |list: &Vec<TopologyHint>| {
        let counts = list.iter().filter_map(|hint| hint.affinity).map(NumaMask::count);
        counts.min().unwrap_or(0)
    };
    lists.iter().map(least).max().unwrap_or(0)
}

struct Merger<'a> {
    numa: &'a NumaInfo,
    all: NumaMask,
    best_count: u32,
}

impl Merger<'_> {
    /// Every combination: `sum` is the merged hint of the lists before these. Its affinity narrows as hints are added;
    /// it stays preferred only while all are, and all name the same nodes.
    fn walk(&self, lists: &[Vec<TopologyHint>], sum: TopologyHint, best: &mut Option<TopologyHint>) {
        let Some((list, rest)) = lists.split_first() else {
            let merged = sum.affinity.unwrap_or(self.all).and(self.all);
            return self.consider(TopologyHint::new(merged, sum.preferred), best);
        };
        for hint in list {
            let same = match (sum.affinity, hint.affinity) {
                (Some(before), Some(now)) => before == now,
                _ => true,
            };
            let affinity = match (sum.affinity, hint.affinity) {
                (Some(before), Some(now)) => Some(before.and(now)),
                (before, now) => before.or(now),
            };
            let preferred = sum.preferred && hint.preferred && same;
            self.walk(rest, TopologyHint { affinity, preferred }, best);
        }
    }

    fn consider(&self, candidate: TopologyHint, best: &mut Option<TopologyHint>) {
        let mask = |hint: TopologyHint| hint.affinity.unwrap_or(NumaMask::EMPTY);
        if mask(candidate).is_empty() {
            return;
        }
        let better = match *best {
            None => true,
            Some(current) if current.preferred != candidate.preferred => candidate.preferred,
            Some(current) if current.preferred => self.closer(mask(candidate), mask(current)),
            Some(current) => self.better_unpreferred(mask(candidate), mask(current)),
        };
        if better {
            *best = Some(candidate);
        }
    }

    /// Of hints that are not preferred, those are best that have as many nodes as some resource needs at least.
    fn better_unpreferred(&self, candidate: NumaMask, current: NumaMask) -> bool {
        let (new, old, best) = (candidate.count(), current.count(), self.best_count);
        match old.cmp(&best) {
            std::cmp::Ordering::Greater => self.closer(candidate, current),
            std::cmp::Ordering::Equal => new == best && self.closer(candidate, current),
            std::cmp::Ordering::Less if new > best => false,
            std::cmp::Ordering::Less if new != old => new > old,
            std::cmp::Ordering::Less => self.closer(candidate, current),
        }
    }

    /// Whether these nodes are fewer, or nearer to one another where that counts, or of lower numbers.
    fn closer(&self, candidate: NumaMask, current: NumaMask) -> bool {
        if candidate.count() == current.count() && self.numa.prefer_closest {
            let (new, old) = (
                self.numa.mean_distance(candidate),
                self.numa.mean_distance(current),
            );
            if new != old {
                return new < old;
            }
        }
        candidate.is_narrower(current)
    }
}
