use std::net::IpAddr;

use knode_nft::{Element, Verdict};

use super::config::octets;
use super::skeleton::{DROP, REJECT};
use crate::model::{Endpoint, IpFamily};
use crate::plan::{Affinity, Frontend, Plan, Target};

/// Map: address . protocol . port → what to do.
pub const SERVICES: &str = "svc";
/// Map: address . protocol . port . index → endpoint.
pub const ENDPOINTS: &str = "eps";
/// Set: addresses of endpoints on this node, twice: source and destination of a packet that comes back.
pub const HAIRPIN: &str = "hairpin";
/// Map: address . protocol . port → the chain that remembers clients.
pub const REMEMBER: &str = "remember";
/// Dynamic map: client . cluster address . protocol . port → endpoint.
pub const AFFINITY: &str = "sticky";
/// The same, only for endpoints on this node.
pub const AFFINITY_HERE: &str = "sticky-here";

pub(super) fn frontend_key(family: IpFamily, frontend: &Frontend) -> Vec<u8> {
    let mut key = octets(frontend.place.address(family));
    key.reserve_exact(12);
    key.extend_from_slice(&[frontend.protocol.number(), 0, 0, 0]);
    key.extend_from_slice(&frontend.port.to_be_bytes());
    key.extend_from_slice(&[0, 0]);
    key
}

pub(super) fn endpoint_value(endpoint: &Endpoint) -> Vec<u8> {
    let mut value = octets(endpoint.ip);
    value.extend_from_slice(&endpoint.port.to_be_bytes());
    value.extend_from_slice(&[0, 0]);
    value
}

fn verdict(target: &Target) -> Verdict {
    Verdict::Goto(match (target, target.shape()) {
        (Target::Endpoints(_), Some(shape)) => shape.to_string(),
        (Target::Drop, _) => DROP.to_owned(),
        _ => REJECT.to_owned(),
    })
}

/// The element that a frontend has in one of the maps, if it has one there.
pub(super) type OneElement = fn(IpFamily, &Frontend, &Target) -> Option<Element>;

/// The maps in which a frontend has one element, in the order in which elements are added.
pub(super) const SINGLES: [(&str, OneElement); 2] =
    [(REMEMBER, remember_element), (SERVICES, service_element)];

fn service_element(family: IpFamily, frontend: &Frontend, target: &Target) -> Option<Element> {
    Some(Element::verdict(frontend_key(family, frontend), verdict(target)))
}

pub(super) fn endpoint_element(
    family: IpFamily,
    frontend: &Frontend,
    index: u32,
    endpoint: &Endpoint,
) -> Element {
    let mut key = frontend_key(family, frontend);
    key.extend_from_slice(&index.to_ne_bytes());
    Element::value(key, endpoint_value(endpoint))
}

pub(super) fn hairpin_element(address: IpAddr) -> Element {
    Element::key([octets(address), octets(address)].concat())
}

/// The chain that remembers the clients of a port of a Service.
pub(super) fn remember_chain(affinity: &Affinity) -> String {
    format!("remember-{}-{}", affinity.seconds, affinity.home.identifier())
}

fn remember_element(family: IpFamily, frontend: &Frontend, target: &Target) -> Option<Element> {
    let chain = remember_chain(&target.affinity()?);
    Some(Element::verdict(
        frontend_key(family, frontend),
        Verdict::Jump(chain),
    ))
}

/// All elements that the plan asks for, with the name of their set.
pub fn elements(plan: &Plan) -> impl Iterator<Item = (&'static str, Element)> {
    let family = plan.family();
    let singles = SINGLES.into_iter().flat_map(move |(set, element)| {
        let of_set = move |(frontend, target)| Some((set, element(family, frontend, target)?));
        plan.targets().filter_map(of_set)
    });
    let endpoints = plan.targets().flat_map(move |(frontend, target)| {
        let numbered = target.numbered();
        numbered
            .map(move |(index, endpoint)| (ENDPOINTS, endpoint_element(family, frontend, index, endpoint)))
    });
    let hairpins = plan.hairpins().map(|address| (HAIRPIN, hairpin_element(address)));
    singles.chain(endpoints).chain(hairpins)
}
