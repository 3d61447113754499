use std::collections::{HashMap, HashSet};

use knode_nft::{Batch, Data, Element, Rule};

use super::elements::{elements_of, planned_sets};
use super::skeleton::{Ruleset, ruleset};
use super::{Actual, TableConfig};
use crate::plan::Plan;

/// The commands that make the table what the plan asks for, whatever it is now; empty if it is so already.
///
/// Where it can be mended it is mended, so that connections and remembered clients stay. A table of another
/// make is replaced as a whole, in one step.
pub fn repair(config: &TableConfig, plan: &Plan, actual: Option<&Actual>) -> Batch {
    let wanted = ruleset(config, plan);
    let mut batch = Batch::new(config.table(plan.family()));
    match actual {
        None => build(&mut batch, &wanted, plan),
        Some(actual) if !can_mend(actual, &wanted) => {
            batch.delete_table();
            build(&mut batch, &wanted, plan);
        }
        Some(actual) => mend(&mut batch, &wanted, plan, actual),
    }
    if let Some(actual) = actual
        && !batch.is_empty()
    {
        batch.expect_generation(actual.generation);
    }
    batch
}

fn build(batch: &mut Batch, wanted: &Ruleset, plan: &Plan) {
    batch.add_table();
    wanted.sets.iter().for_each(|set| batch.add_set(set));
    wanted.chains.iter().for_each(|chain| batch.add_chain(chain));
    wanted.rules.iter().for_each(|rule| batch.append_rule(rule));
    for set in planned_sets() {
        batch.add_elements(set, elements_of(plan, set));
    }
}

/// Sets and hooks cannot be changed in place; whatever else differs can.
fn can_mend(actual: &Actual, wanted: &Ruleset) -> bool {
    let sets = wanted.sets.iter().all(|set| {
        actual
            .sets
            .get(&set.name)
            .is_none_or(|found| found.as_ref() == Some(set))
    });
    let chains = wanted.chains.iter().all(|chain| {
        actual
            .chains
            .get(&chain.name)
            .is_none_or(|found| found.as_ref() == Some(chain))
    });
    sets && chains
}

fn mend(batch: &mut Batch, wanted: &Ruleset, plan: &Plan, actual: &Actual) {
    wanted
        .sets
        .iter()
        .filter(|set| !actual.sets.contains_key(&set.name))
        .for_each(|set| batch.add_set(set));
    let missing = wanted
        .chains
        .iter()
        .filter(|chain| !actual.chains.contains_key(&chain.name));
    missing.for_each(|chain| batch.add_chain(chain));
    let (strange, rewritten) = differing_rules(wanted, actual);
    strange.iter().for_each(|chain| batch.flush_chain(chain));
    mend_elements(batch, plan, actual);
    rewritten.into_iter().for_each(|rule| batch.append_rule(rule));
    let chains: HashSet<&str> = wanted.chains.iter().map(|chain| chain.name.as_str()).collect();
    let extra: Vec<&String> = actual
        .chains
        .keys()
        .filter(|name| !chains.contains(name.as_str()))
        .collect();
    extra.iter().for_each(|name| batch.flush_chain(name));
    extra.iter().for_each(|name| batch.delete_chain(name));
    let sets: HashSet<&str> = wanted.sets.iter().map(|set| set.name.as_str()).collect();
    actual
        .sets
        .keys()
        .filter(|name| !sets.contains(name.as_str()))
        .for_each(|name| batch.delete_set(name));
}

/// The chains whose rules are not as wanted, and the rules that they are to have.
fn differing_rules<'a>(wanted: &'a Ruleset, actual: &Actual) -> (Vec<&'a str>, Vec<&'a Rule>) {
    let mut by_chain: HashMap<&str, Vec<&Rule>> = HashMap::new();
    for rule in &wanted.rules {
        by_chain.entry(&rule.chain).or_default().push(rule);
    }
    let found = |chain: &str| actual.rules.get(chain).map(Vec::as_slice).unwrap_or_default();
    let differs = |chain: &str| {
        !found(chain)
            .iter()
            .eq(by_chain.get(chain).into_iter().flatten().copied())
    };
    let chains: Vec<&str> = wanted
        .chains
        .iter()
        .map(|chain| chain.name.as_str())
        .filter(|chain| differs(chain))
        .collect();
    let rules = wanted
        .rules
        .iter()
        .filter(|rule| chains.contains(&rule.chain.as_str()))
        .collect();
    let strange = chains
        .into_iter()
        .filter(|chain| !found(chain).is_empty())
        .collect();
    (strange, rules)
}

fn mend_elements(batch: &mut Batch, plan: &Plan, actual: &Actual) {
    let none = HashMap::new();
    let diff = |set: &'static str| {
        let wanted: HashMap<Vec<u8>, Option<Data>> = elements_of(plan, set)
            .map(|element| (element.key, element.data))
            .collect();
        let found = actual.elements.get(set).unwrap_or(&none);
        let wrong = found.iter().filter(|(key, data)| wanted.get(*key) != Some(*data));
        let wrong: Vec<Element> = wrong.map(|(key, _)| Element::key(key.clone())).collect();
        let missing = wanted
            .into_iter()
            .filter(|(key, data)| found.get(key) != Some(data));
        let missing: Vec<Element> = missing
            .map(|(key, data)| Element {
                data,
                ..Element::key(key)
            })
            .collect();
        (set, wrong, missing)
    };
    let diffs: Vec<_> = planned_sets().map(diff).collect();
    for (set, wrong, _) in diffs.iter().rev() {
        batch.delete_elements(set, wrong.iter().cloned());
    }
    for (set, _, missing) in diffs {
        batch.add_elements(set, missing);
    }
}
