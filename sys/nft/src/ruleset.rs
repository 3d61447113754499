//! A table without its elements, as it is to be, and how one in the kernel differs from it; pure.

use std::collections::{HashMap, HashSet};

use crate::{Batch, Chain, Rule, Set};

/// The table without its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Its sets and maps.
    pub sets: Vec<Set>,
    /// Its chains, those that others lead to first.
    pub chains: Vec<Chain>,
    /// Its rules, in order within each chain.
    pub rules: Vec<Rule>,
}

/// Sets or chains by name, as the kernel has them; `None` for one that this crate cannot have made.
pub type Held<T> = HashMap<String, Option<T>>;

impl Ruleset {
    /// Adds the table with all of it.
    pub fn build(&self, batch: &mut Batch) {
        batch.add_table();
        self.sets.iter().for_each(|set| batch.add_set(set));
        self.chains.iter().for_each(|chain| batch.add_chain(chain));
        self.rules.iter().for_each(|rule| batch.append_rule(rule));
    }

    /// Adds the sets and chains that are missing.
    pub fn add_missing(&self, batch: &mut Batch, sets: &Held<Set>, chains: &Held<Chain>) {
        let missing_sets = self.sets.iter().filter(|set| !sets.contains_key(&set.name));
        missing_sets.for_each(|set| batch.add_set(set));
        let missing = self
            .chains
            .iter()
            .filter(|chain| !chains.contains_key(&chain.name));
        missing.for_each(|chain| batch.add_chain(chain));
    }

    /// Whether what is there can be mended: sets and hooks cannot be changed in place; whatever else differs can.
    pub fn can_mend(&self, sets: &Held<Set>, chains: &Held<Chain>) -> bool {
        let fits = |found: Option<bool>| found.unwrap_or(true);
        let same_set = |set: &Set| sets.get(&set.name).map(|found| found.as_ref() == Some(set));
        let same_chain = |chain: &Chain| chains.get(&chain.name).map(|found| found.as_ref() == Some(chain));
        self.sets.iter().all(|set| fits(same_set(set)))
            && self.chains.iter().all(|chain| fits(same_chain(chain)))
    }

    /// The chains with rules that are not as wanted, and the rules that such chains are to have.
    pub fn differing_rules(&self, actual: &HashMap<String, Vec<Rule>>) -> (Vec<&str>, Vec<&Rule>) {
        let mut by_chain: HashMap<&str, Vec<&Rule>> = HashMap::new();
        for rule in &self.rules {
            by_chain.entry(&rule.chain).or_default().push(rule);
        }
        let found = |chain: &str| actual.get(chain).map(Vec::as_slice).unwrap_or_default();
        let differs = |chain: &str| {
            let wanted = by_chain.get(chain).into_iter().flatten().copied();
            !found(chain).iter().eq(wanted)
        };
        let names = self.chains.iter().map(|chain| chain.name.as_str());
        let chains: Vec<&str> = names.filter(|chain| differs(chain)).collect();
        let rewritten: HashSet<&str> = chains.iter().copied().collect();
        let rules = self
            .rules
            .iter()
            .filter(|rule| rewritten.contains(rule.chain.as_str()));
        let rules = rules.collect();
        let strange = chains.into_iter().filter(|chain| !found(chain).is_empty());
        (strange.collect(), rules)
    }

    /// Names of chains that are there and not wanted.
    pub fn extra_chains<'a>(&'a self, chains: &'a Held<Chain>) -> Vec<&'a str> {
        extra(self.chains.iter().map(|chain| chain.name.as_str()), chains)
    }

    /// Names of sets that are there and not wanted.
    pub fn extra_sets<'a>(&'a self, sets: &'a Held<Set>) -> Vec<&'a str> {
        extra(self.sets.iter().map(|set| set.name.as_str()), sets)
    }
}

fn extra<'a, T>(wanted: impl Iterator<Item = &'a str>, held: &'a Held<T>) -> Vec<&'a str> {
    let wanted: HashSet<&str> = wanted.collect();
    let names = held.keys().map(String::as_str);
    names.filter(|name| !wanted.contains(name)).collect()
}
