use std::net::IpAddr;

use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{NEW, PUT, Request};
use crate::model::{FdbEntry, Neighbour};

/// Adds a neighbour entry that must not exist.
pub fn add_neighbour(entry: &Neighbour) -> Request {
    Request::new(
        "add neighbour",
        neighbour_object(entry),
        new(neighbour_message(entry)),
        NEW,
    )
}

/// Adds or replaces a neighbour entry.
pub fn replace_neighbour(entry: &Neighbour) -> Request {
    Request::new(
        "set neighbour",
        neighbour_object(entry),
        new(neighbour_message(entry)),
        PUT,
    )
}

/// Deletes a neighbour entry.
pub fn delete_neighbour(entry: &Neighbour) -> Request {
    let message = RouteNetlinkMessage::DelNeighbour(neighbour_message(entry));
    Request::new("delete neighbour", neighbour_object(entry), message, 0)
}

/// Adds a forwarding entry of a VXLAN device that must not exist.
pub fn add_fdb(entry: &FdbEntry) -> Request {
    Request::new("add fdb entry", fdb_object(entry), new(fdb_message(entry)), NEW)
}

/// Adds or replaces the forwarding entry of an Ethernet address.
pub fn replace_fdb(entry: &FdbEntry) -> Request {
    Request::new("set fdb entry", fdb_object(entry), new(fdb_message(entry)), PUT)
}

/// Deletes a forwarding entry.
pub fn delete_fdb(entry: &FdbEntry) -> Request {
    let message = RouteNetlinkMessage::DelNeighbour(fdb_message(entry));
    Request::new("delete fdb entry", fdb_object(entry), message, 0)
}

pub(crate) fn dump_neighbours(index: u32) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.attributes.push(NeighbourAttribute::IfIndex(index));
    RouteNetlinkMessage::GetNeighbour(message)
}

pub(crate) fn dump_fdb(index: u32) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    RouteNetlinkMessage::GetNeighbour(message)
}

fn new(message: NeighbourMessage) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewNeighbour(message)
}

fn neighbour_object(entry: &Neighbour) -> String {
    let mac = entry.mac.map(|m| format!(" at {m}")).unwrap_or_default();
    format!("{}{mac} on link #{}", entry.ip, entry.index)
}

fn fdb_object(entry: &FdbEntry) -> String {
    let remote = entry.remote.map(|r| format!(" at {r}")).unwrap_or_default();
    format!("{}{remote} on link #{}", entry.mac, entry.index)
}

fn state(permanent: bool) -> NeighbourState {
    if permanent {
        NeighbourState::Permanent
    } else {
        NeighbourState::Reachable
    }
}

fn address(ip: IpAddr) -> NeighbourAddress {
    match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    }
}

fn neighbour_message(entry: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let header = &mut message.header;
    header.family = if entry.ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    header.ifindex = entry.index;
    header.state = state(entry.permanent);
    header.kind = RouteType::Unicast;
    message
        .attributes
        .push(NeighbourAttribute::Destination(address(entry.ip)));
    message.attributes.extend(
        entry
            .mac
            .map(|m| NeighbourAttribute::LinkLayerAddress(m.0.to_vec())),
    );
    message
}

fn fdb_message(entry: &FdbEntry) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let header = &mut message.header;
    header.family = AddressFamily::Bridge;
    header.ifindex = entry.index;
    header.state = state(entry.permanent);
    header.flags = NeighbourFlags::Own;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(entry.mac.0.to_vec()));
    message
        .attributes
        .extend(entry.remote.map(|r| NeighbourAttribute::Destination(address(r))));
    message
}
