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

/// The texts that make the tables what they are to be, one after the other, whatever a proxy has left in them. What
/// is there of other programs stays. Only the last one leads packets anywhere else than before.
///
/// There are several only where iptables is built on nf_tables, to which a long text costs more than its parts.
pub fn full(wanted: &Tables, saved: &Saved) -> Vec<String> {
    let mut texts = Vec::new();
    let mut nat: Changes<'_> = changes(&wanted.nat);
    if saved.is_nf_tables() {
        let (mut own, rest): (Vec<_>, Vec<_>) = nat.into_iter().partition(|(name, _)| rank(name) < LISTS);
        own.sort_by_key(|(name, _)| rank(name));
        nat = rest.into_iter().collect();
        texts.extend(own.chunks(CHUNK).map(|chunk| {
            let mut text = String::new();
            write_table(&mut text, Table::Nat, chunk, &[]);
            text
        }));
    }
    let mut text = format!("*{}\n:{CANARY} - [0:0]\nCOMMIT\n", Table::Mangle);
    let filter = (Table::Filter, &wanted.filter, changes(&wanted.filter));
    for (table, chains, mut changed) in [filter, (Table::Nat, &wanted.nat, nat)] {
        let found = saved.table(table);
        let names = found.into_iter().flat_map(BTreeMap::keys);
        let stale = names.filter(|name| is_per_service(name) && !chains.contains_key(*name));
        changed.extend(stale.map(|name| (name, None)));
        let changed: Vec<_> = changed.into_iter().collect();
        write_table(&mut text, table, &changed, &missing_jumps(table, found));
    }
    texts.push(text);
    texts
}

/// Chains that one text holds where a long one is slow.
const CHUNK: usize = 1000;
/// From this rank on, chains are not only led to by those of Services.
const LISTS: u8 = 5;

/// Chains lead only to those of lower rank.
fn rank(chain: &str) -> u8 {
    let ranks = ["KUBE-MARK-MASQ", "KUBE-SEP-", "KUBE-SV", "KUBE-EXT-", "KUBE-FW-"];
    let found = ranks
        .into_iter()
        .zip(0..)
        .find(|(prefix, _)| chain.starts_with(prefix));
    found.map_or(LISTS, |(_, rank)| rank)
}

/// The lines that insert the jumps to our chains which are not there.
fn missing_jumps(table: Table, found: Option<&Chains>) -> Rules {
    let is_there = |chain: &str, rule: &String| {
        let rules = found.and_then(|chains| chains.get(chain));
        rules.is_some_and(|rules| rules.contains(rule))
    };
    jumps()
        .into_iter()
        .filter(|(of, chain, rule)| *of == table && !is_there(chain, rule))
        .map(|(_, chain, rule)| format!("-I {chain} {rule}"))
        .collect()
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
    write_table(&mut text, Table::Filter, &[], &lines);
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
    let nat: Vec<_> = nat.into_iter().collect();
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
fn write_table(text: &mut String, table: Table, chains: &[(&String, Option<&Rules>)], more: &[String]) {
    if chains.is_empty() && more.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "*{table}");
    for (name, _) in chains {
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
