use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::skeleton::{self, CANARY, FILTER_LISTS, NAT_LISTS, jumps};
use super::{Chains, Fragment, Rules, Saved, Table, is_per_service};
use crate::model::{IpFamily, Name};
use crate::table::TableConfig;

/// All that is to stand in the two tables of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// `filter`.
    pub filter: Chains,
    /// `nat`.
    pub nat: Chains,
}

/// Whether forwarded packets that connection tracking cannot place are let through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// They are dropped: answers of a translated connection must not leave untranslated.
    #[default]
    DropInvalid,
    /// They are let through, because connection tracking places all of them (`conntrack.tcpBeLiberal`).
    Liberal,
}

impl Tables {
    /// The tables of Services that contribute these fragments.
    pub fn of(
        fragments: &BTreeMap<Name, Fragment>,
        family: IpFamily,
        config: &TableConfig,
        forwarding: Forwarding,
    ) -> Self {
        let mut tables = Self {
            filter: skeleton::filter(config, forwarding == Forwarding::DropInvalid),
            nat: skeleton::nat(config),
        };
        for chain in FILTER_LISTS {
            tables
                .filter
                .insert(chain.to_owned(), filter_list(fragments, chain));
        }
        for chain in NAT_LISTS {
            tables
                .nat
                .insert(chain.to_owned(), nat_list(fragments, chain, family, config));
        }
        let own = fragments.values().flat_map(|fragment| &fragment.nat);
        tables
            .nat
            .extend(own.map(|(chain, rules)| (chain.clone(), rules.clone())));
        tables
    }
}

fn filter_list(fragments: &BTreeMap<Name, Fragment>, chain: &str) -> Rules {
    let parts = fragments
        .values()
        .filter_map(|fragment| fragment.filter_shared.get(chain));
    parts.flatten().cloned().collect()
}

fn nat_list(
    fragments: &BTreeMap<Name, Fragment>,
    chain: &str,
    family: IpFamily,
    config: &TableConfig,
) -> Rules {
    let parts = fragments
        .values()
        .filter_map(|fragment| fragment.nat_shared.get(chain));
    let mut rules: Rules = parts.flatten().cloned().collect();
    if chain == "KUBE-SERVICES" {
        rules.extend(skeleton::node_ports(config, family));
    }
    rules
}

/// The text that makes the tables what they are to be, whatever a proxy has left in them. What is there of other
/// programs stays.
pub fn full(wanted: &Tables, saved: &Saved) -> String {
    let mut text = format!("*{}\n:{CANARY} - [0:0]\nCOMMIT\n", Table::Mangle);
    for (table, chains) in [(Table::Filter, &wanted.filter), (Table::Nat, &wanted.nat)] {
        let found = saved.table(table);
        let names = found.into_iter().flat_map(BTreeMap::keys);
        let stale = names.filter(|name| is_per_service(name) && !chains.contains_key(*name));
        let lead = |(of, chain, rule): &(Table, &'static str, String)| {
            let rules = found.and_then(|chains| chains.get(*chain));
            let is_there = rules.is_some_and(|rules| rules.contains(rule));
            (*of == table && !is_there).then(|| format!("-I {chain} {rule}"))
        };
        let missing: Vec<String> = jumps().iter().filter_map(lead).collect();
        let mut changed = changes(chains);
        changed.extend(stale.map(|name| (name, None)));
        write_table(&mut text, table, &changed, &missing);
    }
    text
}

/// The text that brings the tables from what some Services contributed `before` to what all of them contribute
/// `now`: their own chains that differ, and the single rules of the shared ones. Empty if there is nothing to do.
pub fn partial(before: &BTreeMap<Name, Fragment>, now: &BTreeMap<Name, Fragment>) -> String {
    let none = Fragment::default();
    let after = |name| now.get(name).unwrap_or(&none);
    let pairs = || before.iter().map(|(name, old)| (old, after(name)));
    let shared = |of: fn(&Fragment) -> &BTreeMap<&'static str, Rules>| {
        let lines = pairs().flat_map(|(old, new)| single_rules(of(old), of(new)));
        lines.collect::<Rules>()
    };
    let mut text = String::new();
    let lines = shared(|fragment| &fragment.filter_shared);
    write_table(&mut text, Table::Filter, &Changes::new(), &lines);
    let mut nat = Changes::new();
    for (old, new) in pairs() {
        let gone = old.nat.keys().filter(|name| !new.nat.contains_key(*name));
        nat.extend(gone.map(|name| (name, None)));
        let differing = new
            .nat
            .iter()
            .filter(|(name, rules)| old.nat.get(*name) != Some(rules));
        nat.extend(differing.map(|(name, rules)| (name, Some(rules))));
    }
    let lines = shared(|fragment| &fragment.nat_shared);
    write_table(&mut text, Table::Nat, &nat, &lines);
    text
}

/// The lines that delete and insert what differs between two contributions to shared chains. Their order is of no
/// meaning there but for the last rule, which is no Service's.
fn single_rules(old: &BTreeMap<&'static str, Rules>, new: &BTreeMap<&'static str, Rules>) -> Rules {
    let mut counts: BTreeMap<(&str, &String), i64> = BTreeMap::new();
    for (sign, lists) in [(-1, old), (1, new)] {
        for (chain, rules) in lists {
            for rule in rules {
                *counts.entry((chain, rule)).or_default() += sign;
            }
        }
    }
    let line = |((chain, rule), count): ((&str, &String), i64)| {
        let word = if count < 0 { "-D" } else { "-I" };
        let times = usize::try_from(count.unsigned_abs()).unwrap_or_default();
        std::iter::repeat_n(format!("{word} {chain} {rule}"), times)
    };
    counts.into_iter().flat_map(line).collect()
}

/// Chains with their new rules; those without are to be deleted.
type Changes<'a> = BTreeMap<&'a String, Option<&'a Rules>>;

fn changes(chains: &Chains) -> Changes<'_> {
    chains.iter().map(|(name, rules)| (name, Some(rules))).collect()
}

/// Writes what is to change in a table, and `more` lines behind it.
fn write_table(text: &mut String, table: Table, chains: &Changes<'_>, more: &[String]) {
    if chains.is_empty() && more.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "*{table}");
    for name in chains.keys() {
        let _ = writeln!(text, ":{name} - [0:0]");
    }
    for (name, rules) in chains {
        for rule in rules.iter().copied().flatten() {
            let _ = writeln!(text, "-A {name} {rule}");
        }
    }
    for line in more {
        let _ = writeln!(text, "{line}");
    }
    for (name, _) in chains.iter().filter(|(_, rules)| rules.is_none()) {
        let _ = writeln!(text, "-X {name}");
    }
    text.push_str("COMMIT\n");
}
