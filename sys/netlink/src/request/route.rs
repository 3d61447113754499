use std::net::IpAddr;

use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{NEW, PUT, Request};
use crate::model::Route;

/// Adds a route that must not exist.
pub fn add_route(route: &Route) -> Request {
    Request::new(
        "add route",
        object(route),
        RouteNetlinkMessage::NewRoute(message(route)),
        NEW,
    )
}

/// Adds a route in place of one with the same destination, metric and table.
pub fn replace_route(route: &Route) -> Request {
    Request::new(
        "set route",
        object(route),
        RouteNetlinkMessage::NewRoute(message(route)),
        PUT,
    )
}

/// Deletes the route that agrees in all that is given.
pub fn delete_route(route: &Route) -> Request {
    Request::new(
        "delete route",
        object(route),
        RouteNetlinkMessage::DelRoute(message(route)),
        0,
    )
}

/// One request per family: the kernel filters by link only within one.
pub(crate) fn dump_routes(index: Option<u32>) -> [RouteNetlinkMessage; 2] {
    [AddressFamily::Inet, AddressFamily::Inet6].map(|family| {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.attributes.extend(index.map(RouteAttribute::Oif));
        RouteNetlinkMessage::GetRoute(message)
    })
}

pub(crate) fn dump_blackholes(ipv6: bool) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = if ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    message.header.kind = RouteType::BlackHole;
    RouteNetlinkMessage::GetRoute(message)
}

pub(crate) fn get_route(destination: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
    message
        .attributes
        .push(RouteAttribute::Destination(RouteAddress::from(destination)));
    RouteNetlinkMessage::GetRoute(message)
}

fn object(route: &Route) -> String {
    let gateway = route.gateway.map(|g| format!(" via {g}")).unwrap_or_default();
    let link = route.link.map(|l| format!(" on link #{l}")).unwrap_or_default();
    format!("{}{gateway}{link}", route.destination)
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.destination.addr());
    header.destination_prefix_length = route.destination.prefix_len();
    header.scope = route.scope.into();
    header.protocol = route.protocol.into();
    header.kind = if route.blackhole {
        RouteType::BlackHole
    } else {
        RouteType::Unicast
    };
    header.table = u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    if route.onlink {
        header.flags |= RouteFlags::Onlink;
    }
    let attributes = &mut message.attributes;
    if !route.is_default() {
        attributes.push(RouteAttribute::Destination(RouteAddress::from(
            route.destination.network(),
        )));
    }
    attributes.extend(
        route
            .gateway
            .map(|g| RouteAttribute::Gateway(RouteAddress::from(g))),
    );
    attributes.extend(
        route
            .source
            .map(|s| RouteAttribute::PrefSource(RouteAddress::from(s))),
    );
    attributes.extend(route.link.map(RouteAttribute::Oif));
    attributes.push(RouteAttribute::Table(route.table));
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    attributes.extend(
        route
            .mtu
            .map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])),
    );
    message
}
