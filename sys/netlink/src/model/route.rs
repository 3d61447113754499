use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHopFlags,
    RouteScope as WireScope, RouteType,
};

/// `RT_TABLE_LOCAL`: addresses of this host.
const TABLE_LOCAL: u8 = 255;

/// A route for packets to one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// Through which router; none for what is on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the link; of several paths the first one's.
    pub link: Option<u32>,
    /// The gateway is taken to be on the link though no address says so.
    pub onlink: bool,
    /// How far it reaches.
    pub scope: RouteScope,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Metric; the smallest wins.
    pub metric: u32,
    /// Routing table; 254 is `main`.
    pub table: u32,
    /// Who put it there (`/etc/iproute2/rt_protos`): 2 kernel, 3 boot, 4 static.
    pub protocol: u8,
    /// Largest packet on the path, bytes.
    pub mtu: Option<u32>,
    /// It leads nowhere: packets are dropped without a word.
    pub blackhole: bool,
}

/// How far a route's destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteScope {
    /// Anywhere.
    Universe,
    /// On the link.
    Link,
    /// This host.
    Host,
    /// Any other, as the kernel numbers it.
    Other(u8),
}

impl Route {
    /// `RTPROT_KERNEL`: made by the kernel along with an address.
    pub const PROTOCOL_KERNEL: u8 = 2;
    /// `RTPROT_BOOT`: what upstream's tools leave when they say nothing.
    pub const PROTOCOL_BOOT: u8 = 3;
    /// The table `main`.
    pub const TABLE_MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

    /// A route in `main` without gateway, with defaults that `ip route add` has too.
    pub fn new(destination: IpNet, link: u32) -> Self {
        Self {
            destination,
            gateway: None,
            link: Some(link),
            onlink: false,
            scope: RouteScope::Link,
            source: None,
            metric: 0,
            table: Self::TABLE_MAIN,
            protocol: Self::PROTOCOL_BOOT,
            mtu: None,
            blackhole: false,
        }
    }

    /// A route in `main` that drops what it matches.
    pub fn blackhole(destination: IpNet) -> Self {
        Self {
            link: None,
            scope: RouteScope::Universe,
            blackhole: true,
            ..Self::new(destination, 0)
        }
    }

    /// A route in `main` through a router.
    pub fn via(destination: IpNet, gateway: IpAddr, link: u32) -> Self {
        Self {
            gateway: Some(gateway),
            scope: RouteScope::Universe,
            ..Self::new(destination, link)
        }
    }

    /// Is it a default route?
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }

    /// Parses unicast routes outside the table `local`.
    pub(crate) fn from_message(message: &RouteMessage) -> Option<Self> {
        Self::from_notice(message).filter(|route| !route.blackhole)
    }

    /// Likewise those that drop packets.
    pub(crate) fn from_notice(message: &RouteMessage) -> Option<Self> {
        let ours = matches!(message.header.kind, RouteType::Unicast | RouteType::BlackHole);
        let cloned = message.header.flags.contains(RouteFlags::Cloned);
        let local = message.header.table == TABLE_LOCAL;
        if ours && !cloned && !local {
            Self::from_any(message)
        } else {
            None
        }
    }

    pub(crate) fn from_any(message: &RouteMessage) -> Option<Self> {
        let unspecified = match message.header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let mut route = Self {
            destination: IpNet::new(unspecified, message.header.destination_prefix_length).ok()?,
            gateway: None,
            link: None,
            onlink: message.header.flags.contains(RouteFlags::Onlink),
            scope: message.header.scope.into(),
            source: None,
            metric: 0,
            table: u32::from(message.header.table),
            protocol: message.header.protocol.into(),
            mtu: None,
            blackhole: message.header.kind == RouteType::BlackHole,
        };
        for attribute in &message.attributes {
            route.take(attribute);
        }
        Some(route)
    }

    fn take(&mut self, attribute: &RouteAttribute) {
        match attribute {
            RouteAttribute::Destination(address) => {
                let net = ip(address).and_then(|ip| IpNet::new(ip, self.destination.prefix_len()).ok());
                self.destination = net.unwrap_or(self.destination);
            }
            RouteAttribute::Gateway(address) => self.gateway = ip(address),
            RouteAttribute::PrefSource(address) => self.source = ip(address),
            RouteAttribute::Oif(index) => self.link = Some(*index),
            RouteAttribute::Priority(metric) => self.metric = *metric,
            RouteAttribute::Table(table) => self.table = *table,
            RouteAttribute::Metrics(metrics) => {
                self.mtu = metrics.iter().find_map(|m| match m {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::MultiPath(hops) => {
                if let Some(hop) = hops.first() {
                    self.link = Some(hop.interface_index);
                    self.onlink |= hop.flags.contains(RouteNextHopFlags::Onlink);
                    hop.attributes.iter().for_each(|a| self.take(a));
                }
            }
            _ => {}
        }
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

impl From<WireScope> for RouteScope {
    fn from(scope: WireScope) -> Self {
        match scope {
            WireScope::Universe => Self::Universe,
            WireScope::Link => Self::Link,
            WireScope::Host => Self::Host,
            other => Self::Other(other.into()),
        }
    }
}

impl From<RouteScope> for WireScope {
    fn from(scope: RouteScope) -> Self {
        match scope {
            RouteScope::Universe => Self::Universe,
            RouteScope::Link => Self::Link,
            RouteScope::Host => Self::Host,
            RouteScope::Other(number) => number.into(),
        }
    }
}
