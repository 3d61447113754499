use std::collections::{HashMap, HashSet};

use knode_nft::{Batch, Element, Rule};

use super::Actual;
use super::elements::{Found, elements};
use super::layout::table;
use super::ruleset::{Ruleset, ruleset};
use crate::model::IpFamily;
use crate::plan::Planner;

type Elements = HashMap<String, Vec<Element>>;

/// The commands that make the table of a family what the plan asks for, whatever it is now; empty if it is so
/// already. It is mended where it can be, and replaced in one step where it is of another make.
pub fn repair(name: &str, family: IpFamily, plan: &Planner, actual: Option<&Actual>) -> Batch {
    let (wanted, elements) = (ruleset(plan, family), elements(plan, family));
    let mut batch = Batch::new(table(name, family));
    match actual {
        None => build(&mut batch, &wanted, elements),
        Some(actual) if !can_mend(actual, &wanted) => {
            batch.delete_table();
            build(&mut batch, &wanted, elements);
        }
        Some(actual) => mend(&mut batch, &wanted, elements, actual),
    }
    if let Some(actual) = actual
        && !batch.is_empty()
    {
        batch.expect_generation(actual.generation);
    }
    batch
}

fn build(batch: &mut Batch, wanted: &Ruleset, elements: Elements) {
    batch.add_table();
    wanted.sets.iter().for_each(|set| batch.add_set(set));
    wanted.chains.iter().for_each(|chain| batch.add_chain(chain));
    wanted.rules.iter().for_each(|rule| batch.append_rule(rule));
    for (set, elements) in elements {
        batch.add_elements(&set, elements);
    }
}

/// Sets and hooks cannot be changed in place; whatever else differs can.
fn can_mend(actual: &Actual, wanted: &Ruleset) -> bool {
    let mut sets = wanted.sets.iter().map(|set| (actual.sets.get(&set.name), set));
    let mut chains = wanted
        .chains
        .iter()
        .map(|chain| (actual.chains.get(&chain.name), chain));
    sets.all(|(found, set)| found.is_none_or(|found| found.as_ref() == Some(set)))
        && chains.all(|(found, chain)| found.is_none_or(|found| found.as_ref() == Some(chain)))
}

fn mend(batch: &mut Batch, wanted: &Ruleset, elements: Elements, actual: &Actual) {
    let missing_sets = wanted
        .sets
        .iter()
        .filter(|set| !actual.sets.contains_key(&set.name));
    missing_sets.for_each(|set| batch.add_set(set));
    let missing = wanted
        .chains
        .iter()
        .filter(|chain| !actual.chains.contains_key(&chain.name));
    missing.for_each(|chain| batch.add_chain(chain));
    let (strange, rewritten) = differing_rules(wanted, actual);
    strange.iter().for_each(|chain| batch.flush_chain(chain));
    rewritten.into_iter().for_each(|rule| batch.append_rule(rule));
    for (set, elements) in elements {
        mend_elements(batch, &set, elements, actual);
    }
    delete_extra(batch, wanted, actual);
}

fn delete_extra(batch: &mut Batch, wanted: &Ruleset, actual: &Actual) {
    let chains: HashSet<&str> = wanted.chains.iter().map(|chain| chain.name.as_str()).collect();
    let extra: Vec<&String> = actual
        .chains
        .keys()
        .filter(|name| !chains.contains(name.as_str()))
        .collect();
    let sets: HashSet<&str> = wanted.sets.iter().map(|set| set.name.as_str()).collect();
    let extra_sets: Vec<&String> = actual
        .sets
        .keys()
        .filter(|name| !sets.contains(name.as_str()))
        .collect();
    // A map may lead to a chain, and a rule may ask a set.
    extra.iter().for_each(|name| batch.flush_chain(name));
    extra_sets.iter().for_each(|name| batch.delete_set(name));
    extra.iter().for_each(|name| batch.delete_chain(name));
}

/// The chains with rules that are not as wanted, and the rules that such chains are to have.
fn differing_rules<'a>(wanted: &'a Ruleset, actual: &Actual) -> (Vec<&'a str>, Vec<&'a Rule>) {
    let mut by_chain: HashMap<&str, Vec<&Rule>> = HashMap::new();
    for rule in &wanted.rules {
        by_chain.entry(&rule.chain).or_default().push(rule);
    }
    let found = |chain: &str| actual.rules.get(chain).map(Vec::as_slice).unwrap_or_default();
    let differs = |chain: &str| {
        let wanted = by_chain.get(chain).into_iter().flatten().copied();
        !found(chain).iter().eq(wanted)
    };
    let names = wanted.chains.iter().map(|chain| chain.name.as_str());
    let chains: HashSet<&str> = names.filter(|chain| differs(chain)).collect();
    let rules = wanted
        .rules
        .iter()
        .filter(|rule| chains.contains(rule.chain.as_str()));
    let rules = rules.collect();
    let strange = chains.into_iter().filter(|chain| !found(chain).is_empty());
    (strange.collect(), rules)
}

fn mend_elements(batch: &mut Batch, set: &str, wanted: Vec<Element>, actual: &Actual) {
    let none = HashMap::new();
    let found = actual.elements.get(set).unwrap_or(&none);
    let as_wanted: HashMap<&[u8], (&Option<Vec<u8>>, &Option<_>)> = wanted
        .iter()
        .map(|element| (element.key.as_slice(), (&element.end, &element.data)))
        .collect();
    let is_right = |key: &[u8], (end, data): &Found| as_wanted.get(key) == Some(&(end, data));
    let wrong: Vec<Element> = found
        .iter()
        .filter(|(key, other)| !is_right(key, other))
        .map(|(key, (end, _))| Element {
            end: end.clone(),
            ..Element::key(key.clone())
        })
        .collect();
    let missing: Vec<Element> = wanted
        .iter()
        .filter(|element| {
            let found = found.get(&element.key);
            found.is_none_or(|found| !is_right(&element.key, found))
        })
        .cloned()
        .collect();
    batch.delete_elements(set, wrong);
    batch.add_elements(set, missing);
}
