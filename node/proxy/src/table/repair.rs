use std::collections::HashMap;

use knode_nft::{Batch, Data, Element, Ruleset};

use super::elements::{elements_of, planned_sets};
use super::skeleton::ruleset;
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
        Some(actual) if !wanted.can_mend(&actual.sets, &actual.chains) => {
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
    wanted.build(batch);
    for set in planned_sets() {
        batch.add_elements(set, elements_of(plan, set));
    }
}

fn mend(batch: &mut Batch, wanted: &Ruleset, plan: &Plan, actual: &Actual) {
    wanted.add_missing(batch, &actual.sets, &actual.chains);
    let (strange, rewritten) = wanted.differing_rules(&actual.rules);
    strange.iter().for_each(|chain| batch.flush_chain(chain));
    mend_elements(batch, plan, actual);
    rewritten.into_iter().for_each(|rule| batch.append_rule(rule));
    let extra = wanted.extra_chains(&actual.chains);
    extra.iter().for_each(|name| batch.flush_chain(name));
    extra.iter().for_each(|name| batch.delete_chain(name));
    let sets = wanted.extra_sets(&actual.sets);
    sets.iter().for_each(|name| batch.delete_set(name));
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
