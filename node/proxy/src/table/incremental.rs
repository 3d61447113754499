use std::net::IpAddr;

use knode_nft::{Batch, Chain, Element};

use super::elements::{
    ENDPOINTS, HAIRPIN, REMEMBER, SERVICES, endpoint_element, hairpin_element, is_ours, remember_chain,
    remember_element, service_element,
};
use super::{TableConfig, pick, remember};
use crate::model::Endpoint;
use crate::plan::{Change, Changes, Frontend, Target};

/// The commands for what changed in the plan. Elements that stay as they are are not touched; those of other
/// value are deleted and added anew, which the kernel applies as one step.
pub fn batch(config: &TableConfig, changes: &Changes) -> Batch {
    let mut batch = Batch::new(config.table());
    new_chains(&mut batch, config, changes);
    let ours: Vec<&Change> = changes
        .frontends
        .iter()
        .filter(|change| is_ours(&change.frontend))
        .collect();
    let verdicts = [(SERVICES, service as OneElement), (REMEMBER, remember_element)];
    for (set, element) in verdicts {
        batch.delete_elements(set, ours.iter().filter_map(|change| differing(change, element).0));
    }
    batch.delete_elements(
        ENDPOINTS,
        ours.iter().flat_map(|change| endpoints(change, Side::Old)),
    );
    batch.delete_elements(HAIRPIN, hairpins(&changes.hairpins.old));
    batch.add_elements(HAIRPIN, hairpins(&changes.hairpins.new));
    batch.add_elements(
        ENDPOINTS,
        ours.iter().flat_map(|change| endpoints(change, Side::New)),
    );
    for (set, element) in verdicts {
        batch.add_elements(set, ours.iter().filter_map(|change| differing(change, element).1));
    }
    changes
        .shapes
        .old
        .iter()
        .for_each(|shape| batch.delete_chain(&shape.to_string()));
    changes
        .timeouts
        .old
        .iter()
        .for_each(|seconds| batch.delete_chain(&remember_chain(*seconds)));
    batch
}

fn new_chains(batch: &mut Batch, config: &TableConfig, changes: &Changes) {
    for shape in &changes.shapes.new {
        batch.add_chain(&Chain::plain(shape.to_string()));
        pick::rules(config, *shape)
            .iter()
            .for_each(|rule| batch.append_rule(rule));
    }
    for seconds in &changes.timeouts.new {
        batch.add_chain(&Chain::plain(remember_chain(*seconds)));
        batch.append_rule(&remember::rule(*seconds));
    }
}

fn hairpins(addresses: &[IpAddr]) -> impl Iterator<Item = Element> {
    addresses
        .iter()
        .filter(|address| address.is_ipv4())
        .map(|address| hairpin_element(*address))
}

/// The element that a frontend has in one of the verdict maps.
type OneElement = fn(&Frontend, &Target) -> Option<Element>;

fn service(frontend: &Frontend, target: &Target) -> Option<Element> {
    Some(service_element(frontend, target))
}

/// The element to delete and the one to add; neither if it stays as it is.
fn differing(change: &Change, element: OneElement) -> (Option<Element>, Option<Element>) {
    let of = |target: &Option<Target>| {
        target
            .as_ref()
            .and_then(|target| element(&change.frontend, target))
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

/// The elements of the one side that the other has not.
fn endpoints(change: &Change, side: Side) -> impl Iterator<Item = Element> {
    let of = |target: &Option<Target>| {
        target
            .as_ref()
            .map(|target| target.endpoints().to_vec())
            .unwrap_or_default()
    };
    let (mine, others) = match side {
        Side::Old => (of(&change.old), of(&change.new)),
        Side::New => (of(&change.new), of(&change.old)),
    };
    let frontend = change.frontend;
    let same = move |at: usize, endpoint: &Endpoint| {
        others
            .get(at)
            .is_some_and(|other| (other.ip, other.port) == (endpoint.ip, endpoint.port))
    };
    mine.into_iter()
        .enumerate()
        .filter(move |(at, endpoint)| !same(*at, endpoint))
        .map(move |(at, endpoint)| endpoint_element(&frontend, at, &endpoint))
}
