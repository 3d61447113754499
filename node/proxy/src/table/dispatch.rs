//! From a frontend to the chain for its number of endpoints, without a verdict in a map.
//!
//! When an element that leads to a chain is added to a map, the kernel looks at every element of it again, so that
//! one Service more would cost the more the more there are. So what is plain about a frontend is told by its
//! membership in sets: one for its kind, and one for each bit of its number of endpoints. Chains ask for one bit
//! after the other, as many as the numbers in use take to be told apart.

use std::collections::{BTreeMap, BTreeSet};

use knode_nft::{Reg, Rule, Verdict};

use super::elements::{NO_ENDPOINTS, SERVICES};
use super::layout::Layout;
use super::pick::{load_frontend, lookup};
use crate::model::IpFamily;
use crate::plan::{Kind, Shape};

/// Sets: the frontends whose number of endpoints has this bit, from the lowest on; as many as
/// [`PLAIN_LIMIT`](crate::plan::PLAIN_LIMIT) takes.
pub(super) const COUNTS: [&str; 12] = [
    "count-1",
    "count-2",
    "count-4",
    "count-8",
    "count-16",
    "count-32",
    "count-64",
    "count-128",
    "count-256",
    "count-512",
    "count-1024",
    "count-2048",
];

/// The set of the plain frontends of a kind.
pub(crate) fn members(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "to-cluster",
        Kind::External | Kind::ExternalLocal => "to-external",
        Kind::Node | Kind::NodeLocal => "to-node",
    }
}

/// The sets and the map whose elements count the connections to their frontends.
pub(crate) fn counted_sets() -> impl Iterator<Item = &'static str> {
    Kind::PLAIN
        .into_iter()
        .map(members)
        .chain([SERVICES, NO_ENDPOINTS])
}

/// The chains that tell these plain shapes apart, with their rules; each kind's begins with that of its name.
pub(super) fn chains(family: IpFamily, shapes: &BTreeSet<Shape>) -> BTreeMap<String, Vec<Rule>> {
    let mut chains = BTreeMap::new();
    for kind in Kind::PLAIN {
        let of_kind = shapes.iter().filter(|shape| shape.kind == kind);
        let counts: BTreeSet<u32> = of_kind.map(|shape| shape.endpoints).collect();
        let counts: Vec<u32> = counts.into_iter().collect();
        let tree = Tree {
            layout: Layout(family),
            kind,
        };
        tree.add(kind.word().to_owned(), &counts, &mut chains);
    }
    chains
}

struct Tree {
    layout: Layout,
    kind: Kind,
}

impl Tree {
    /// Adds the chain that tells sorted numbers apart, and those that it leads to.
    fn add(&self, name: String, counts: &[u32], chains: &mut BTreeMap<String, Vec<Rule>>) {
        let rules = match counts {
            [] => Vec::new(),
            [one] => vec![self.goto(&name, None, self.leaf(*one))],
            [first, .., last] => {
                let bit = (first ^ last).ilog2();
                let (without, with) =
                    counts.split_at(counts.partition_point(|count| count & (1 << bit) == 0));
                vec![
                    self.goto(&name, Some(bit), self.child(with, bit, chains)),
                    self.goto(&name, None, self.child(without, bit, chains)),
                ]
            }
        };
        chains.insert(name, rules);
    }

    /// The chain for numbers that have the bits above `bit` and that one in common.
    fn child(&self, counts: &[u32], bit: u32, chains: &mut BTreeMap<String, Vec<Rule>>) -> String {
        if let [one] = counts {
            return self.leaf(*one);
        }
        let below = (1 << bit) - 1;
        let lowest = counts.first().copied().unwrap_or_default() & !below;
        let name = format!("{}-{lowest}-to-{}", self.kind.word(), lowest | below);
        self.add(name.clone(), counts, chains);
        name
    }

    fn leaf(&self, count: u32) -> String {
        Shape::plain(self.kind, count).to_string()
    }

    fn goto(&self, chain: &str, bit: Option<u32>, to: String) -> Rule {
        let mut exprs = Vec::new();
        if let Some(set) = bit.and_then(|bit| COUNTS.get(bit as usize)) {
            exprs = load_frontend(self.layout, Reg(0), self.kind.place());
            exprs.push(lookup(set, Reg(0), None));
        }
        exprs.push(knode_nft::Expr::Verdict(Verdict::Goto(to)));
        Rule::new(chain, exprs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(counts: &[u32]) -> Vec<String> {
        let shapes = counts.iter().map(|count| Shape::plain(Kind::Cluster, *count));
        let chains = chains(IpFamily::V4, &shapes.collect());
        chains
            .into_iter()
            .filter(|(_, rules)| !rules.is_empty())
            .map(|(name, rules)| {
                let to = rules.iter().map(|rule| match rule.exprs.last() {
                    Some(knode_nft::Expr::Verdict(verdict)) => verdict.to_string(),
                    other => format!("{other:?}"),
                });
                format!("{name}: {}", to.collect::<Vec<_>>().join(", "))
            })
            .collect()
    }

    #[test]
    fn as_many_bits_are_asked_for_as_the_numbers_take() {
        assert_eq!(names(&[]), [""; 0]);
        assert_eq!(names(&[3]), ["pick: goto pick-3"]);
        assert_eq!(names(&[1, 3]), ["pick: goto pick-3, goto pick-1"]);
        assert_eq!(
            names(&[1, 2, 3, 9]),
            [
                "pick: goto pick-9, goto pick-0-to-7",
                "pick-0-to-7: goto pick-2-to-3, goto pick-1",
                "pick-2-to-3: goto pick-3, goto pick-2"
            ]
        );
    }

    #[test]
    fn a_number_more_changes_few_chains() {
        let of = |counts: std::ops::Range<u32>| {
            let shapes = counts.map(|count| Shape::plain(Kind::Cluster, count));
            chains(IpFamily::V4, &shapes.collect())
        };
        let (before, after) = (of(1..100), of(1..101));
        let changed = after
            .iter()
            .filter(|(name, rules)| before.get(*name) != Some(rules));
        assert!(changed.count() <= 3);
    }
}
