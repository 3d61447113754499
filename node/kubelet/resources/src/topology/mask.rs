//! A set of NUMA nodes.

use std::fmt;

/// A set of NUMA nodes with numbers from 0 to 63 (upstream: `topologymanager/bitmask`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NumaMask(u64);

impl NumaMask {
    /// No node.
    pub const EMPTY: Self = Self(0);

    /// The nodes of these numbers; those above 63 are left out, as no mask can hold them.
    pub fn of(nodes: impl IntoIterator<Item = u32>) -> Self {
        let bit = |node| 1u64.checked_shl(node).unwrap_or(0);
        Self(nodes.into_iter().fold(0, |bits, node| bits | bit(node)))
    }

    /// The nodes in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The nodes in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the node is in it.
    pub fn has(self, node: u32) -> bool {
        1u64.checked_shl(node).is_some_and(|bit| self.0 & bit != 0)
    }

    /// How many nodes.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of these nodes are in the other too.
    pub fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// The numbers, ascending.
    pub fn nodes(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |node| self.has(*node))
    }

    /// Fewer nodes; of as many, those of lower numbers.
    pub fn is_narrower(self, other: Self) -> bool {
        (self.count(), self.0) < (other.count(), other.0)
    }

    /// Every set of at least one of these nodes, ascending by size.
    pub fn subsets(nodes: &[u32]) -> Vec<Self> {
        let count = nodes.len().min(16);
        let pick = |bits: u32| {
            let chosen = nodes.iter().enumerate().take(count);
            Self::of(
                chosen
                    .filter(|(place, _)| bits & (1u32 << *place) != 0)
                    .map(|(_, node)| *node),
            )
        };
        let mut all: Vec<Self> = (1..1u32 << count).map(pick).collect();
        all.sort_by_key(|mask| (mask.count(), mask.0));
        all
    }
}

impl fmt::Display for NumaMask {
    /// In binary, as upstream writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:b}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_nodes() {
        let mask = NumaMask::of([0, 3, 64, 99]);
        assert_eq!(mask.nodes().collect::<Vec<_>>(), [0, 3]);
        assert_eq!((mask.count(), mask.to_string().as_str()), (2, "1001"));
        assert!(mask.has(3) && !mask.has(1) && !mask.has(80));
        assert!(NumaMask::of([3]).is_subset(mask) && !mask.is_subset(NumaMask::of([3])));
        assert!(NumaMask::of([5]).is_narrower(mask) && NumaMask::of([0, 1]).is_narrower(mask));
        let all: Vec<String> = NumaMask::subsets(&[0, 1])
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(all, ["1", "10", "11"]);
    }
}
