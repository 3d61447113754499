use std::net::IpAddr;

use knode_nft::{Element, Verdict};

use super::config::octets;
use super::dispatch;
use crate::model::{Endpoint, IpFamily};
use crate::plan::{Affinity, Frontend, Kind, Plan, Target};

/// Map: address . protocol . port → the chain of a frontend that is not plain.
pub const SERVICES: &str = "svc";
/// Map: address . protocol . port . index → endpoint.
pub const ENDPOINTS: &str = "eps";
/// The same for frontends that are not plain: their chains come and go with them, and the kernel looks at all that
/// a new chain may lead to.
pub const SPECIAL_ENDPOINTS: &str = "eps-special";
/// Set: addresses of endpoints on this node, twice: source and destination of a packet that comes back.
pub const HAIRPIN: &str = "hairpin";
/// Set: the frontends that have no endpoints.
pub const NO_ENDPOINTS: &str = "no-endpoints";
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

/// A set or map in which a frontend has one element at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Single {
    /// [`REMEMBER`].
    Remember,
    /// The number of endpoints has this bit.
    Count(u32),
    /// [`NO_ENDPOINTS`].
    NoEndpoints,
    /// The plain frontends of a kind.
    Members(Kind),
    /// [`SERVICES`].
    Service,
}

impl Single {
    /// All, in the order in which elements are added.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + Clone {
        let counts = (0..dispatch::COUNTS.len() as u32).map(Self::Count);
        let members = Kind::PLAIN.into_iter().map(Self::Members);
        std::iter::once(Self::Remember)
            .chain(counts)
            .chain([Self::NoEndpoints])
            .chain(members)
            .chain([Self::Service])
    }

    pub fn set(self) -> &'static str {
        match self {
            Self::Remember => REMEMBER,
            Self::Count(bit) => dispatch::COUNTS[bit as usize],
            Self::NoEndpoints => NO_ENDPOINTS,
            Self::Members(kind) => dispatch::members(kind),
            Self::Service => SERVICES,
        }
    }

    /// The element that a frontend has here, if it has one.
    pub fn element(self, family: IpFamily, frontend: &Frontend, target: &Target) -> Option<Element> {
        let key = || frontend_key(family, frontend);
        let is_member = match self {
            Self::Remember => {
                let chain = remember_chain(&target.affinity()?);
                return Some(Element::verdict(key(), Verdict::Jump(chain)));
            }
            Self::Service => return Some(Element::verdict(key(), special(target)?)),
            Self::NoEndpoints => *target == Target::Reject,
            Self::Members(kind) => target.plain().is_some_and(|(of, _)| of == kind),
            Self::Count(bit) => target.plain().is_some_and(|(_, count)| count & (1 << bit) != 0),
        };
        is_member.then(|| Element::key(key()))
    }
}

/// What is done with packets to a frontend that takes more than a number of endpoints to tell. A verdict that
/// leads to no chain is not looked at again by the kernel, see [`dispatch`].
fn special(target: &Target) -> Option<Verdict> {
    match target {
        Target::Drop => Some(Verdict::Drop),
        Target::Endpoints(_) if target.plain().is_none() => Some(Verdict::Goto(target.shape()?.to_string())),
        Target::Endpoints(_) | Target::Reject => None,
    }
}

/// The maps of endpoints.
pub(crate) const ENDPOINT_MAPS: [&str; 2] = [ENDPOINTS, SPECIAL_ENDPOINTS];

/// In which of them the endpoints of a target stand, if it has any.
pub(super) fn endpoint_map(target: &Target) -> &'static str {
    match target.plain() {
        Some(_) => ENDPOINTS,
        None => SPECIAL_ENDPOINTS,
    }
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

/// The names of the sets and maps that hold what the plan says, all but the clients.
pub(super) fn planned_sets() -> impl DoubleEndedIterator<Item = &'static str> + Clone {
    [HAIRPIN]
        .into_iter()
        .chain(ENDPOINT_MAPS)
        .chain(Single::all().map(Single::set))
}

/// The elements that the plan asks for in one set or map.
pub(super) fn elements_of<'a>(plan: &'a Plan, set: &str) -> Box<dyn Iterator<Item = Element> + 'a> {
    let family = plan.family();
    if set == HAIRPIN {
        return Box::new(plan.hairpins().map(hairpin_element));
    }
    if let Some(map) = ENDPOINT_MAPS.into_iter().find(|map| *map == set) {
        let numbered = move |(frontend, target): (&'a Frontend, &'a Target)| {
            let numbered = target.numbered();
            numbered.map(move |(index, endpoint)| endpoint_element(family, frontend, index, endpoint))
        };
        let here = plan
            .targets()
            .filter(move |(_, target)| endpoint_map(target) == map);
        return Box::new(here.flat_map(numbered));
    }
    let Some(single) = Single::all().find(|single| single.set() == set) else {
        return Box::new(std::iter::empty());
    };
    let element = move |(frontend, target)| single.element(family, frontend, target);
    Box::new(plan.targets().filter_map(element))
}

/// All elements that the plan asks for, with the name of their set.
pub fn elements(plan: &Plan) -> impl Iterator<Item = (&'static str, Element)> {
    planned_sets().flat_map(|set| elements_of(plan, set).map(move |element| (set, element)))
}
