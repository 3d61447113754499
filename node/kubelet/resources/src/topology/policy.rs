//! What is chosen, and whether it is good enough (upstream: `topologymanager/policy_*.go`).

use std::collections::BTreeMap;

use super::merge::{lists, merge};
use super::{Hints, NumaMask, TopologyHint};
use crate::options::{OptionError, truth};

/// Whether and how strictly resources come from the same NUMA nodes (`topologyManagerPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// `none`: nothing is chosen.
    #[default]
    None,
    /// `best-effort`: the best is chosen.
    BestEffort,
    /// `restricted`: pods that could not be given what they prefer are rejected.
    Restricted,
    /// `single-numa-node`: pods that could not be given everything from one node are rejected.
    SingleNumaNode,
}

impl Policy {
    /// By the word of the configuration.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "none" => Some(Self::None),
            "best-effort" => Some(Self::BestEffort),
            "restricted" => Some(Self::Restricted),
            "single-numa-node" => Some(Self::SingleNumaNode),
            _ => None,
        }
    }
}

/// What is given nodes as one (`topologyManagerScope`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// `container`: each container by itself.
    #[default]
    Container,
    /// `pod`: all containers of a pod together.
    Pod,
}

impl Scope {
    /// By the word of the configuration.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "container" => Some(Self::Container),
            "pod" => Some(Self::Pod),
            _ => None,
        }
    }
}

/// `topologyManagerPolicyOptions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopologyOptions {
    /// `prefer-closest-numa-nodes`: of sets of as many nodes, the nearest.
    pub prefer_closest: bool,
    /// `max-allowable-numa-nodes`; 0 where it is not set.
    pub most_nodes: usize,
}

impl TopologyOptions {
    /// Reads them.
    ///
    /// # Errors
    /// [`OptionError`] for those that are unknown or not of their form.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let mut all = Self::default();
        for (name, value) in options {
            match name.as_str() {
                "prefer-closest-numa-nodes" => all.prefer_closest = truth(name, value)?,
                "max-allowable-numa-nodes" => {
                    let most = value.parse().ok().filter(|most| (8..=16).contains(most));
                    all.most_nodes = most.ok_or_else(|| OptionError::Range {
                        name: name.clone(),
                        value: value.clone(),
                    })?;
                }
                _ => {
                    return Err(OptionError::Unknown {
                        what: "topology manager",
                        name: name.clone(),
                    });
                }
            }
        }
        Ok(all)
    }
}

/// The machine's NUMA nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumaInfo {
    /// Their numbers, ascending.
    pub nodes: Vec<u32>,
    /// From each node to each, in the order of their numbers, in the kernel's units (10 is local).
    pub distances: BTreeMap<u32, Vec<u32>>,
    /// The option `prefer-closest-numa-nodes`.
    pub prefer_closest: bool,
}

impl NumaInfo {
    /// All of them.
    pub fn all(&self) -> NumaMask {
        NumaMask::of(self.nodes.iter().copied())
    }

    /// Mean distance between the nodes of a set, each to each and to itself.
    pub(super) fn mean_distance(&self, mask: NumaMask) -> f64 {
        let chosen = self.nodes.iter().enumerate();
        let chosen: Vec<(usize, u32)> = chosen
            .map(|(place, node)| (place, *node))
            .filter(|(_, node)| mask.has(*node))
            .collect();
        let row = |node: u32| self.distances.get(&node);
        let pairs = chosen.iter().flat_map(|(_, from)| {
            let row = row(*from);
            chosen
                .iter()
                .map(move |(place, _)| row.and_then(|row| row.get(*place)).copied().unwrap_or(0))
        });
        let sum: u32 = pairs.sum();
        f64::from(sum) / (chosen.len().max(1) as f64).powi(2)
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What resources are to be given from.
    pub hint: TopologyHint,
    /// Whether the pod may run.
    pub admit: bool,
}

impl Policy {
    /// Decides on the hints of all providers.
    pub fn choose(self, numa: &NumaInfo, providers: &[Hints]) -> Choice {
        match self {
            Self::None => Choice {
                hint: TopologyHint::ANY,
                admit: true,
            },
            Self::BestEffort => Choice {
                hint: merge(numa, &lists(providers)),
                admit: true,
            },
            Self::Restricted => preferred(merge(numa, &lists(providers))),
            Self::SingleNumaNode => preferred(single(numa, lists(providers))),
        }
    }
}

fn preferred(hint: TopologyHint) -> Choice {
    Choice {
        hint,
        admit: hint.preferred,
    }
}

/// Of each resource only the hints of one node, or of any.
fn single(numa: &NumaInfo, mut lists: Vec<Vec<TopologyHint>>) -> TopologyHint {
    for list in &mut lists {
        list.retain(|hint| hint.preferred && hint.affinity.is_none_or(|mask| mask.count() == 1));
    }
    let best = merge(numa, &lists);
    match best.affinity == Some(numa.all()) {
        true => TopologyHint {
            affinity: None,
            ..best
        },
        false => best,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numa(nodes: u32) -> NumaInfo {
        NumaInfo {
            nodes: (0..nodes).collect(),
            ..NumaInfo::default()
        }
    }

    fn hint(nodes: &[u32], preferred: bool) -> TopologyHint {
        TopologyHint::new(NumaMask::of(nodes.iter().copied()), preferred)
    }

    fn provider(resource: &str, hints: Option<Vec<TopologyHint>>) -> Hints {
        Hints::from([(resource.to_owned(), hints)])
    }

    fn choose(policy: Policy, providers: &[Hints]) -> (TopologyHint, bool) {
        let choice = policy.choose(&numa(2), providers);
        (choice.hint, choice.admit)
    }

    #[test]
    fn without_wishes_everything_is_good() {
        for policy in [Policy::BestEffort, Policy::Restricted] {
            assert_eq!(choose(policy, &[Hints::new()]), (hint(&[0, 1], true), true));
            assert_eq!(
                choose(policy, &[provider("r", None)]),
                (hint(&[0, 1], true), true)
            );
        }
        assert_eq!(
            choose(Policy::SingleNumaNode, &[Hints::new()]),
            (TopologyHint::ANY, true)
        );
    }

    #[test]
    fn what_cannot_be_met_is_not_preferred() {
        let never = [provider("r", Some(Vec::new()))];
        assert_eq!(choose(Policy::BestEffort, &never), (hint(&[0, 1], false), true));
        assert!(!choose(Policy::Restricted, &never).1);
        assert!(!choose(Policy::SingleNumaNode, &never).1);
        assert!(choose(Policy::None, &never).1);
    }

    #[test]
    fn the_nodes_that_all_prefer() {
        let cpu = provider(
            "cpu",
            Some(vec![hint(&[0], true), hint(&[1], true), hint(&[0, 1], false)]),
        );
        let device = provider("device", Some(vec![hint(&[1], true), hint(&[0, 1], false)]));
        for policy in [Policy::BestEffort, Policy::Restricted, Policy::SingleNumaNode] {
            assert_eq!(
                choose(policy, &[cpu.clone(), device.clone()]),
                (hint(&[1], true), true)
            );
        }
    }

    #[test]
    fn two_nodes_are_enough_for_restricted_and_not_for_one_node() {
        let wide = [provider("cpu", Some(vec![hint(&[0, 1], true)]))];
        assert_eq!(choose(Policy::Restricted, &wide), (hint(&[0, 1], true), true));
        assert!(!choose(Policy::SingleNumaNode, &wide).1);
    }

    #[test]
    fn apart_is_not_preferred() {
        let here = provider("a", Some(vec![hint(&[0], true), hint(&[0, 1], false)]));
        let there = provider("b", Some(vec![hint(&[1], true), hint(&[0, 1], false)]));
        let (best, admit) = choose(Policy::BestEffort, &[here.clone(), there.clone()]);
        assert!(admit && !best.preferred);
        assert!(!choose(Policy::Restricted, &[here, there]).1);
    }

    #[test]
    fn nearer_nodes_where_that_counts() {
        let pairs = [vec![
            hint(&[0, 1], true),
            hint(&[0, 2], true),
            hint(&[1, 2], true),
        ]];
        let providers = pairs.map(|hints| provider("r", Some(hints)));
        let mut numa = numa(3);
        numa.distances = BTreeMap::from([
            (0, vec![10, 21, 11]),
            (1, vec![21, 10, 21]),
            (2, vec![11, 21, 10]),
        ]);
        let chosen = |numa: &NumaInfo| Policy::Restricted.choose(numa, &providers).hint;
        assert_eq!(chosen(&numa), hint(&[0, 1], true));
        numa.prefer_closest = true;
        assert_eq!(chosen(&numa), hint(&[0, 2], true));
    }
}
