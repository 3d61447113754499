use std::net::IpAddr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::MacAddr;

/// Which Ethernet address an IP address of a link has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// Index of the link.
    pub index: u32,
    /// The IP address.
    pub ip: IpAddr,
    /// Its Ethernet address; none while unresolved.
    pub mac: Option<MacAddr>,
    /// Never expires and is never asked for.
    pub permanent: bool,
}

/// Where a VXLAN device sends frames for an Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FdbEntry {
    /// Index of the VXLAN device.
    pub index: u32,
    /// The frames' destination.
    pub mac: MacAddr,
    /// The peer's underlay address.
    pub remote: Option<IpAddr>,
    /// Never expires.
    pub permanent: bool,
}

impl Neighbour {
    pub(crate) fn from_message(message: &NeighbourMessage) -> Option<Self> {
        if message.header.family == AddressFamily::Bridge {
            return None;
        }
        Some(Self {
            index: message.header.ifindex,
            ip: destination(message)?,
            mac: mac(message),
            permanent: permanent(message),
        })
    }
}

impl FdbEntry {
    pub(crate) fn from_message(message: &NeighbourMessage) -> Option<Self> {
        if message.header.family != AddressFamily::Bridge {
            return None;
        }
        Some(Self {
            index: message.header.ifindex,
            mac: mac(message)?,
            remote: destination(message),
            permanent: permanent(message),
        })
    }
}

fn permanent(message: &NeighbourMessage) -> bool {
    u16::from(message.header.state) & u16::from(NeighbourState::Permanent) != 0
}

fn mac(message: &NeighbourMessage) -> Option<MacAddr> {
    message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(bytes) => MacAddr::from_bytes(bytes),
        _ => None,
    })
}

fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        // The bridge family does not say which one it carries; the length does.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => from_bytes(bytes),
        _ => None,
    })
}

fn from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}
