use std::collections::BTreeMap;
use std::net::IpAddr;

use knode_nft::{Batch, Chain, Element, Rule};

use super::elements::{
    ENDPOINT_MAPS, HAIRPIN, Single, endpoint_element, endpoint_map, hairpin_element, remember_chain,
};
use super::{TableConfig, dispatch, pick, remember};
use crate::model::{Endpoint, IpFamily};
use crate::plan::{Change, Changes, Target};

/// The commands for what changed in the plan. Elements that stay as they are are not touched; those of other
/// value are deleted and added anew, which the kernel applies as one step.
pub fn batch(config: &TableConfig, changes: &Changes) -> Batch {
    let family = changes.family;
    let mut batch = Batch::new(config.table(family));
    let paths = Paths::of(changes);
    new_chains(&mut batch, config, changes, &paths);
    let ours = &changes.frontends;
    for single in Single::all().rev() {
        let old = ours
            .iter()
            .filter_map(|change| differing(family, change, single).0);
        batch.delete_elements(single.set(), old);
    }
    let endpoints_of = |map, side| {
        ours.iter()
            .flat_map(move |change| endpoints(family, change, map, side))
    };
    for map in ENDPOINT_MAPS {
        batch.delete_elements(map, endpoints_of(map, Side::Old));
    }
    batch.delete_elements(HAIRPIN, hairpins(&changes.hairpins.old));
    batch.add_elements(HAIRPIN, hairpins(&changes.hairpins.new));
    for map in ENDPOINT_MAPS {
        batch.add_elements(map, endpoints_of(map, Side::New));
    }
    for single in Single::all() {
        let new = ours
            .iter()
            .filter_map(|change| differing(family, change, single).1);
        batch.add_elements(single.set(), new);
    }
    let gone: Vec<&String> = paths
        .before
        .keys()
        .filter(|name| !paths.after.contains_key(*name))
        .collect();
    gone.iter().for_each(|chain| batch.flush_chain(chain));
    let shapes = changes.shapes.old.iter().map(ToString::to_string);
    let affinities = changes.affinities.old.iter().map(remember_chain);
    gone.into_iter()
        .cloned()
        .chain(shapes)
        .chain(affinities)
        .for_each(|chain| batch.delete_chain(&chain));
    batch
}

/// The chains that lead to plain shapes; both empty if these are the same as before.
#[derive(Default)]
struct Paths {
    before: BTreeMap<String, Vec<Rule>>,
    after: BTreeMap<String, Vec<Rule>>,
}

impl Paths {
    fn of(changes: &Changes) -> Self {
        let Some([before, after]) = &changes.plain else {
            return Self::default();
        };
        Self {
            before: dispatch::chains(changes.family, before),
            after: dispatch::chains(changes.family, after),
        }
    }
}

fn new_chains(batch: &mut Batch, config: &TableConfig, changes: &Changes, paths: &Paths) {
    for shape in &changes.shapes.new {
        batch.add_chain(&Chain::plain(shape.to_string()));
        pick::rules(config, changes.family, shape)
            .iter()
            .for_each(|rule| batch.append_rule(rule));
    }
    for affinity in &changes.affinities.new {
        batch.add_chain(&Chain::plain(remember_chain(affinity)));
        remember::rules(changes.family, affinity)
            .iter()
            .for_each(|rule| batch.append_rule(rule));
    }
    let new = paths
        .after
        .keys()
        .filter(|name| !paths.before.contains_key(*name));
    new.for_each(|name| batch.add_chain(&Chain::plain(name)));
    for (name, rules) in &paths.after {
        let old = paths.before.get(name);
        if old == Some(rules) {
            continue;
        }
        if old.is_some_and(|old| !old.is_empty()) {
            batch.flush_chain(name);
        }
        rules.iter().for_each(|rule| batch.append_rule(rule));
    }
}

fn hairpins(addresses: &[IpAddr]) -> impl Iterator<Item = Element> {
    addresses.iter().map(|address| hairpin_element(*address))
}

/// The element to delete and the one to add; neither if it stays as it is.
fn differing(family: IpFamily, change: &Change, single: Single) -> (Option<Element>, Option<Element>) {
    let of = |target: &Option<_>| {
        target
            .as_ref()
            .and_then(|target| single.element(family, &change.frontend, target))
    };
    match (of(&change.old), of(&change.new)) {
        (old, new) if old == new => (None, None),
        differing => differing,
    }
}

#[derive(Clone, Copy)]
enum Side {
    Old,
    New,
}

/// The elements of a map that the one side has and the other has not.
fn endpoints(family: IpFamily, change: &Change, map: &str, side: Side) -> Vec<Element> {
    let (mine, others) = match side {
        Side::Old => (&change.old, &change.new),
        Side::New => (&change.new, &change.old),
    };
    let here = |target: &&Target| endpoint_map(target) == map;
    let Some(mine) = mine.as_ref().filter(here) else {
        return Vec::new();
    };
    let others = others.as_ref().filter(here);
    let others = others.map(|target| target.lists()).unwrap_or_default();
    let address = |endpoint: &Endpoint| (endpoint.ip, endpoint.port);
    let same = |index: u32, endpoint: &Endpoint| {
        let (list, at) = crate::plan::place_in_lists(index);
        others[list]
            .get(at)
            .is_some_and(|other| address(other) == address(endpoint))
    };
    mine.numbered()
        .filter(|(index, endpoint)| !same(*index, endpoint))
        .map(|(index, endpoint)| endpoint_element(family, &change.frontend, index, endpoint))
        .collect()
}
