use std::net::{IpAddr, Ipv4Addr};

use knode_nft::{Data, Element};

use super::Actual;
use super::elements::ENDPOINTS;
use crate::model::{Endpoint, Protocol};
use crate::plan::{Frontend, Orders, Place, Plan};

fn address(bytes: &[u8]) -> Option<IpAddr> {
    bytes
        .first_chunk::<4>()
        .map(|octets| Ipv4Addr::from(*octets).into())
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Address, protocol and port as the maps' keys begin.
fn frontend(key: &[u8]) -> Option<Frontend> {
    Some(Frontend {
        place: Place::from_address(address(key)?),
        protocol: Protocol::from_number(*key.get(4)?)?,
        port: port(key.get(8..)?)?,
    })
}

fn endpoint(value: &[u8]) -> Option<Endpoint> {
    Some(Endpoint {
        ip: address(value)?,
        port: port(value.get(4..)?)?,
        local: false,
    })
}

/// The order in which the table has the endpoints of each frontend.
pub fn orders(actual: &Actual) -> Orders {
    let mut indexed: Vec<(Frontend, u32, Endpoint)> = Vec::new();
    for (key, data) in actual.elements.get(ENDPOINTS).into_iter().flatten() {
        let index = key
            .get(12..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map(|index| u32::from_ne_bytes(*index));
        let Some(Data::Value(value)) = data else { continue };
        if let (Some(frontend), Some(index), Some(endpoint)) = (frontend(key), index, endpoint(value)) {
            indexed.push((frontend, index, endpoint));
        }
    }
    indexed.sort_unstable();
    let mut orders = Orders::new();
    for (frontend, _, endpoint) in indexed {
        orders.entry(frontend).or_default().push(endpoint);
    }
    orders
}

/// The elements of the map of clients that lead to an endpoint which the plan no longer has.
pub fn sticky_clients(plan: &Plan, clients: Vec<Element>) -> Vec<Element> {
    clients
        .into_iter()
        .filter(|element| !is_valid(plan, element))
        .map(|element| Element::key(element.key))
        .collect()
}

fn is_valid(plan: &Plan, element: &Element) -> bool {
    let Some(Data::Value(value)) = &element.data else {
        return false;
    };
    let (Some(endpoint), Some(named)) = (endpoint(value), element.key.get(4..).and_then(frontend)) else {
        return false;
    };
    let leads_there = |place| {
        let target = plan.get(&Frontend { place, ..named });
        let mut endpoints = target.map(|target| target.endpoints()).unwrap_or_default().iter();
        endpoints.any(|known| (known.ip, known.port) == (endpoint.ip, endpoint.port))
    };
    if plan.get(&named).is_some() {
        return leads_there(named.place);
    }
    leads_there(Place::Node) || leads_there(Place::NodeFromOutside)
}
