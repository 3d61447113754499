use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{NEW, PUT, Request};
use crate::model::Address;

/// Gives a link an address that it must not have yet. IPv6 addresses are usable at once (no duplicate detection).
pub fn add_address(address: &Address) -> Request {
    Request::new(
        "add address",
        object(address),
        RouteNetlinkMessage::NewAddress(message(address)),
        NEW,
    )
}

/// Gives a link an address, whether it has it or not.
pub fn replace_address(address: &Address) -> Request {
    Request::new(
        "set address",
        object(address),
        RouteNetlinkMessage::NewAddress(message(address)),
        PUT,
    )
}

/// Takes an address from a link.
pub fn delete_address(address: &Address) -> Request {
    Request::new(
        "delete address",
        object(address),
        RouteNetlinkMessage::DelAddress(message(address)),
        0,
    )
}

pub(crate) fn dump_addresses(index: Option<u32>) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.index = index.unwrap_or(0);
    RouteNetlinkMessage::GetAddress(message)
}

fn object(address: &Address) -> String {
    format!("{} of link #{}", address.net, address.index)
}

fn message(address: &Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    let ip = address.net.addr();
    message.header.index = address.index;
    message.header.prefix_len = address.net.prefix_len();
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    match address.net {
        IpNet::V4(net) => {
            message.header.family = AddressFamily::Inet;
            let broadcast = broadcast(ip, net.broadcast(), net.prefix_len());
            message
                .attributes
                .extend(broadcast.map(AddressAttribute::Broadcast));
        }
        IpNet::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            message.header.flags |= AddressHeaderFlags::Nodad;
        }
    }
    message
}

/// The network's broadcast address; networks of one or two addresses have none.
fn broadcast(ip: IpAddr, broadcast: Ipv4Addr, prefix_len: u8) -> Option<Ipv4Addr> {
    (prefix_len < 31 && ip != IpAddr::V4(broadcast)).then_some(broadcast)
}
