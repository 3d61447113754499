use std::net::{IpAddr, Ipv4Addr};

use knode_nft::{Element, Verdict};

use super::skeleton::{DROP, REJECT};
use crate::model::Endpoint;
use crate::plan::{Frontend, Kind, Place, Plan, Target};

/// Map: address . protocol . port → what to do.
pub const SERVICES: &str = "svc";
/// Map: address . protocol . port . index → endpoint.
pub const ENDPOINTS: &str = "eps";
/// Set: addresses of endpoints on this node, twice: source and destination of a packet that comes back.
pub const HAIRPIN: &str = "hairpin";
/// Map: address . protocol . port → for how long clients are remembered.
pub const REMEMBER: &str = "remember";
/// Dynamic map: client . address . protocol . port → endpoint.
pub const AFFINITY: &str = "sticky";

/// The IPv4 address in a map's key; the plan holds no other for this table.
fn octets(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => address.to_ipv4_mapped().unwrap_or(Ipv4Addr::BROADCAST).octets(),
    }
}

/// Whether this table programs the frontend at all.
pub(super) fn is_ours(frontend: &Frontend) -> bool {
    frontend.place.address().is_ipv4()
}

pub(super) fn frontend_key(frontend: &Frontend) -> Vec<u8> {
    let mut key = Vec::with_capacity(16);
    key.extend_from_slice(&octets(frontend.place.address()));
    key.extend_from_slice(&[frontend.protocol.number(), 0, 0, 0]);
    key.extend_from_slice(&frontend.port.to_be_bytes());
    key.extend_from_slice(&[0, 0]);
    key
}

fn endpoint_key(frontend: &Frontend, index: usize) -> Vec<u8> {
    let mut key = frontend_key(frontend);
    key.extend_from_slice(&(index as u32).to_ne_bytes());
    key
}

pub(super) fn endpoint_value(endpoint: &Endpoint) -> Vec<u8> {
    let mut value = Vec::with_capacity(8);
    value.extend_from_slice(&octets(endpoint.ip));
    value.extend_from_slice(&endpoint.port.to_be_bytes());
    value.extend_from_slice(&[0, 0]);
    value
}

fn verdict(target: &Target) -> Verdict {
    match target {
        Target::Reject => Verdict::Goto(REJECT.to_owned()),
        Target::Drop => Verdict::Goto(DROP.to_owned()),
        Target::Endpoints { kind, .. } => {
            let chain = target.shape().map(|shape| shape.to_string()).unwrap_or_default();
            // Clients inside return from there and go on to the other endpoints.
            if *kind == Kind::NodeFromOutside {
                Verdict::Jump(chain)
            } else {
                Verdict::Goto(chain)
            }
        }
    }
}

pub(super) fn service_element(frontend: &Frontend, target: &Target) -> Element {
    Element::verdict(frontend_key(frontend), verdict(target))
}

pub(super) fn endpoint_element(frontend: &Frontend, index: usize, endpoint: &Endpoint) -> Element {
    Element::value(endpoint_key(frontend, index), endpoint_value(endpoint))
}

pub(super) fn hairpin_element(address: IpAddr) -> Element {
    Element::key([octets(address), octets(address)].concat())
}

/// The chain that remembers clients for so many seconds.
pub(super) fn remember_chain(seconds: u32) -> String {
    format!("remember-{seconds}")
}

/// Node ports are found under one place, whichever of the two the client came by.
pub(super) fn remember_element(frontend: &Frontend, target: &Target) -> Option<Element> {
    let seconds = target
        .affinity()
        .filter(|_| frontend.place != Place::NodeFromOutside)?;
    Some(Element::verdict(
        frontend_key(frontend),
        Verdict::Jump(remember_chain(seconds)),
    ))
}

/// All elements that the plan asks for, with the name of their set.
pub fn elements(plan: &Plan) -> impl Iterator<Item = (&'static str, Element)> {
    let services = plan.targets().filter(|(frontend, _)| is_ours(frontend));
    let services = services.map(|(frontend, target)| (SERVICES, service_element(frontend, target)));
    let endpoints =
        plan.targets()
            .filter(|(frontend, _)| is_ours(frontend))
            .flat_map(|(frontend, target)| {
                let numbered = target.endpoints().iter().enumerate();
                numbered.map(|(index, endpoint)| (ENDPOINTS, endpoint_element(frontend, index, endpoint)))
            });
    let hairpins = plan
        .hairpins()
        .filter(IpAddr::is_ipv4)
        .map(|address| (HAIRPIN, hairpin_element(address)));
    let remembered = plan.targets().filter(|(frontend, _)| is_ours(frontend));
    let remembered = remembered
        .filter_map(|(frontend, target)| remember_element(frontend, target))
        .map(|element| (REMEMBER, element));
    services.chain(endpoints).chain(hairpins).chain(remembered)
}
