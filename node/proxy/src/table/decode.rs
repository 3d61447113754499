use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knode_nft::{Data, Element};

use super::Actual;
use super::elements::{ENDPOINT_MAPS, frontend_key};
use crate::model::{Endpoint, IpFamily, Protocol};
use crate::plan::{Frontend, KEPT, Orders, Place, Plan};

/// Reads the keys and values of one family's maps.
#[derive(Debug, Clone, Copy)]
pub struct Decoder(pub IpFamily);

impl Decoder {
    /// The address that a key begins with.
    pub fn address(self, key: &[u8]) -> Option<IpAddr> {
        Some(self.split_address(key)?.0)
    }

    fn split_address(self, bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
        Some(match self.0 {
            IpFamily::V4 => {
                let (octets, rest) = bytes.split_first_chunk::<4>()?;
                (Ipv4Addr::from(*octets).into(), rest)
            }
            IpFamily::V6 => {
                let (octets, rest) = bytes.split_first_chunk::<16>()?;
                (Ipv6Addr::from(*octets).into(), rest)
            }
        })
    }

    /// Address, protocol and port as the maps' keys begin, and what comes after.
    pub fn frontend(self, key: &[u8]) -> Option<(Frontend, &[u8])> {
        let (address, rest) = self.split_address(key)?;
        let frontend = Frontend {
            place: Place::from_address(address),
            protocol: Protocol::from_number(*rest.first()?)?,
            port: port(rest.get(4..)?)?,
        };
        Some((frontend, rest.get(8..)?))
    }

    /// The key of a frontend, the reverse of [`Decoder::frontend`].
    pub fn key(self, frontend: &Frontend) -> Vec<u8> {
        frontend_key(self.0, frontend)
    }

    /// A key of the map of endpoints.
    pub fn numbered(self, key: &[u8]) -> Option<(Frontend, u32)> {
        let (frontend, rest) = self.frontend(key)?;
        Some((frontend, u32::from_ne_bytes(*rest.first_chunk()?)))
    }

    /// A key of the map of clients: the client and the frontend under which it is remembered.
    pub fn client(self, key: &[u8]) -> Option<(IpAddr, Frontend)> {
        let (client, rest) = self.split_address(key)?;
        Some((client, self.frontend(rest)?.0))
    }

    /// A value of the map of endpoints or of clients; whether it is local is not in it.
    pub fn endpoint(self, value: &[u8]) -> Option<Endpoint> {
        let (ip, rest) = self.split_address(value)?;
        Some(Endpoint {
            ip,
            port: port(rest)?,
            local: false,
        })
    }
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))
}

/// The order in which the table has the endpoints of each frontend.
pub fn orders(actual: &Actual) -> Orders {
    let decoder = Decoder(actual.family);
    let mut indexed: Vec<(Frontend, u32, Endpoint)> = Vec::new();
    let maps = ENDPOINT_MAPS
        .into_iter()
        .filter_map(|map| actual.elements.get(map));
    for (key, data) in maps.flatten() {
        let Some(Data::Value(value)) = data else { continue };
        if let (Some((frontend, index)), Some(endpoint)) = (decoder.numbered(key), decoder.endpoint(value)) {
            indexed.push((frontend, index, endpoint));
        }
    }
    indexed.sort_unstable();
    let mut orders = Orders::new();
    for (frontend, index, endpoint) in indexed {
        let lists = orders.entry(frontend).or_default();
        lists[usize::from(index >= KEPT)].push(endpoint);
    }
    orders
}

/// The elements of the map of clients that lead to an endpoint which the plan no longer has.
pub fn sticky_clients(plan: &Plan, clients: Vec<Element>) -> Vec<Element> {
    let mut valid: HashMap<Frontend, HashSet<(IpAddr, u16)>> = HashMap::new();
    for (_, target) in plan.targets() {
        if let Some(affinity) = target.affinity() {
            let endpoints = target.endpoints().map(|endpoint| (endpoint.ip, endpoint.port));
            valid.entry(affinity.home).or_default().extend(endpoints);
        }
    }
    let decoder = Decoder(plan.family());
    let is_valid = |element: &Element| {
        let Some(Data::Value(value)) = &element.data else {
            return false;
        };
        let (Some((_, home)), Some(endpoint)) = (decoder.client(&element.key), decoder.endpoint(value))
        else {
            return false;
        };
        let known = valid.get(&home);
        known.is_some_and(|endpoints| endpoints.contains(&(endpoint.ip, endpoint.port)))
    };
    clients
        .into_iter()
        .filter(|element| !is_valid(element))
        .map(|element| Element::key(element.key))
        .collect()
}
