use std::collections::HashMap;

use knode_nft::{Batch, Element, Ruleset};

use super::Actual;
use super::elements::{Found, elements};
use super::layout::table;
use super::ruleset::ruleset;
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
        Some(actual) if !wanted.can_mend(&actual.sets, &actual.chains) => {
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
    wanted.build(batch);
    for (set, elements) in elements {
        batch.add_elements(&set, elements);
    }
}

fn mend(batch: &mut Batch, wanted: &Ruleset, elements: Elements, actual: &Actual) {
    wanted.add_missing(batch, &actual.sets, &actual.chains);
    let (strange, rewritten) = wanted.differing_rules(&actual.rules);
    strange.iter().for_each(|chain| batch.flush_chain(chain));
    rewritten.into_iter().for_each(|rule| batch.append_rule(rule));
    for (set, elements) in elements {
        mend_elements(batch, &set, elements, actual);
    }
    // A map may lead to a chain, and a rule may ask a set.
    let extra = wanted.extra_chains(&actual.chains);
    extra.iter().for_each(|name| batch.flush_chain(name));
    let sets = wanted.extra_sets(&actual.sets);
    sets.iter().for_each(|name| batch.delete_set(name));
    extra.iter().for_each(|name| batch.delete_chain(name));
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
