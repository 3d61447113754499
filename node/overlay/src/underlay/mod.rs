//! Which interface leads to the other nodes; pure.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use knode_netlink::{Address, Event, Link, LinkKind, Route, RouteScope};
use regex::Regex;

use crate::flags::Interfaces;

/// The interface to the other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// Index of the link.
    pub index: u32,
    /// Name of the link.
    pub name: String,
    /// Address that the others send to.
    pub ip: Ipv4Addr,
    /// Network of that address: who is in it can be reached without a router.
    pub network: Ipv4Net,
    /// Its IPv6 address with the length of its network's prefix, if it has one for others.
    pub ipv6: Option<Ipv6Net>,
    /// Largest packet, bytes.
    pub mtu: u32,
}

impl Underlay {
    /// Whether a change in the kernel may be one of the interface.
    pub(crate) fn concerned(&self, event: &Event) -> bool {
        match event {
            Event::Lost => true,
            Event::Link(link) => link.name == self.name && (link.index != self.index || link.mtu != self.mtu),
            Event::Address(address) | Event::AddressGone(address) => address.index == self.index,
            _ => false,
        }
    }
}

/// What the administrator asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Name or address of the interface (`--iface`).
    pub interface: Option<String>,
    /// The node's address.
    pub node_ip: Option<Ipv4Addr>,
    /// Address to tell the others instead of the interface's (`--public-ip`).
    pub public_ip: Option<Ipv4Addr>,
    /// Likewise for IPv6 (`--public-ipv6`).
    pub public_ipv6: Option<Ipv6Addr>,
}

/// Why there is no interface.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UnderlayError {
    /// The named interface is not there.
    #[error("there is no interface {0}")]
    NoSuchInterface(String),
    /// The named interface has no address for others.
    #[error("interface {0} has no IPv4 address")]
    NoAddress(String),
    /// The network has IPv6, the interface no address of it for others.
    #[error("interface {0} has no IPv6 address for other nodes, and the network has IPv6")]
    NoIpv6(String),
    /// No interface has the node's address.
    #[error("no interface has the node's address {0}")]
    NoSuchAddress(IpAddr),
    /// No interface's name or address matches.
    #[error("no interface's name or IPv4 address matches {0:?}")]
    NoMatch(String),
    /// A pattern is none.
    #[error("{pattern:?} is no pattern of interfaces")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: regex::Error,
    },
    /// No route leads there.
    #[error("no route leads to {0}")]
    Unreachable(Ipv4Addr),
    /// Nothing was asked for and nothing suits.
    #[error("no default route and no interface with an IPv4 address")]
    None,
}

/// Largest packet that is expected to get through where the link sets no sensible limit (loopback).
const USUAL_MTU: u32 = 1500;

/// Chooses: the interface asked for, else that with the node's address, else the default route's, else the first one
/// that is up and has an address.
///
/// # Errors
/// [`UnderlayError`].
pub fn choose(
    links: &[Link],
    addresses: &[Address],
    routes: &[Route],
    wish: &Wish,
) -> Result<Underlay, UnderlayError> {
    let host = Host { links, addresses };
    if let Some(text) = &wish.interface {
        return match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => host.with_address(ip),
            Ok(IpAddr::V6(ip)) => host.with_ipv6(ip),
            Err(_) => host.named(text, wish.node_ip),
        };
    }
    if let Some(ip) = wish.node_ip {
        return host.with_address(ip);
    }
    host.default_route(routes)
        .or_else(|| host.first())
        .ok_or(UnderlayError::None)
}

/// Looks for what the administrator asks for in the given order and takes the first that is there; without a wish the
/// default. `source` is the address from which packets to `can_reach` would go.
///
/// # Errors
/// The last wish's [`UnderlayError`].
pub fn search(
    links: &[Link],
    addresses: &[Address],
    routes: &[Route],
    asked: &Interfaces,
    source: Option<Ipv4Addr>,
) -> Result<Underlay, UnderlayError> {
    let host = Host { links, addresses };
    let named = asked.named.iter().map(|name| {
        let interface = Some(name.clone());
        let wish = Wish {
            interface,
            ..Wish::default()
        };
        choose(links, addresses, routes, &wish)
    });
    let matching = asked.patterns.iter().map(|pattern| host.matching(pattern));
    let reaching = asked.can_reach.iter().map(|target| {
        let source = source.ok_or(UnderlayError::Unreachable(*target))?;
        host.with_address(source)
    });
    let mut last = None;
    for found in named.chain(matching).chain(reaching) {
        match found {
            Ok(underlay) => return Ok(underlay),
            Err(error @ UnderlayError::Pattern { .. }) => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error),
        None => choose(links, addresses, routes, &Wish::default()),
    }
}

/// The interface as it is now: the link of that name, by the same address if it still has that, else by its first.
/// `None` while it is down, gone, or without an address.
pub(crate) fn follow(links: &[Link], addresses: &[Address], current: &Underlay) -> Option<Underlay> {
    let host = Host { links, addresses };
    let link = links.iter().find(|l| l.name == current.name && l.up)?;
    let has = |a: &&Address| a.index == link.index && a.net.addr() == IpAddr::V4(current.ip);
    let kept = addresses.iter().find(has).map(|_| current.ip);
    let ip = kept.or_else(|| host.ips(link).next())?;
    let now = host.underlay(link, ip);
    let kept = host.ips_v6(link).find(|net| Some(*net) == current.ipv6);
    Some(Underlay {
        ipv6: kept.or(now.ipv6),
        ..now
    })
}

struct Host<'a> {
    links: &'a [Link],
    addresses: &'a [Address],
}

impl Host<'_> {
    fn with_address(&self, ip: Ipv4Addr) -> Result<Underlay, UnderlayError> {
        let address = self.addresses.iter().find(|a| a.net.addr() == IpAddr::V4(ip));
        let link = address.and_then(|a| self.links.iter().find(|l| l.index == a.index));
        link.map(|l| self.underlay(l, ip))
            .ok_or(UnderlayError::NoSuchAddress(ip.into()))
    }

    /// The link with this address, which is then the one to tell for IPv6.
    fn with_ipv6(&self, ip: Ipv6Addr) -> Result<Underlay, UnderlayError> {
        let of = |link: &Link| self.ips_v6(link).find(|net| net.addr() == ip);
        let found = self.links.iter().find_map(|link| Some((link, of(link)?)));
        let (link, net) = found.ok_or(UnderlayError::NoSuchAddress(ip.into()))?;
        let v4 = self.ips(link).next();
        let v4 = v4.ok_or_else(|| UnderlayError::NoAddress(link.name.clone()))?;
        Ok(Underlay {
            ipv6: Some(net),
            ..self.underlay(link, v4)
        })
    }

    fn named(&self, name: &str, prefer: Option<Ipv4Addr>) -> Result<Underlay, UnderlayError> {
        let link = self.links.iter().find(|l| l.name == name);
        let link = link.ok_or_else(|| UnderlayError::NoSuchInterface(name.to_owned()))?;
        let ip = self
            .ips(link)
            .find(|ip| Some(*ip) == prefer)
            .or_else(|| self.ips(link).next());
        ip.map(|ip| self.underlay(link, ip))
            .ok_or_else(|| UnderlayError::NoAddress(name.to_owned()))
    }

    /// The link with an address that matches, else that whose name does.
    fn matching(&self, pattern: &str) -> Result<Underlay, UnderlayError> {
        let wrong = |source| UnderlayError::Pattern {
            pattern: pattern.to_owned(),
            source,
        };
        let expression = Regex::new(pattern).map_err(wrong)?;
        let by_address = self.links.iter().find_map(|link| {
            let ip = self.ips(link).find(|ip| expression.is_match(&ip.to_string()))?;
            Some(self.underlay(link, ip))
        });
        let by_name = || {
            let links = self.links.iter().filter(|l| expression.is_match(&l.name));
            links
                .filter_map(|l| Some(self.underlay(l, self.ips(l).next()?)))
                .next()
        };
        by_address
            .or_else(by_name)
            .ok_or_else(|| UnderlayError::NoMatch(pattern.to_owned()))
    }

    fn default_route(&self, routes: &[Route]) -> Option<Underlay> {
        let suits =
            |r: &&Route| r.is_default() && r.destination.addr().is_ipv4() && r.scope != RouteScope::Host;
        let route = routes.iter().filter(suits).min_by_key(|r| r.metric)?;
        let link = self.links.iter().find(|l| Some(l.index) == route.link)?;
        let source = match route.source {
            Some(IpAddr::V4(ip)) => Some(ip),
            _ => self.ips(link).next(),
        };
        source.map(|ip| self.underlay(link, ip))
    }

    /// Loopback comes last: only an address that somebody gave it for others makes it suit.
    fn first(&self) -> Option<Underlay> {
        let suits = |l: &&Link| l.up && l.name != "cni0" && !matches!(l.kind, LinkKind::Vxlan(_));
        let addressed = self
            .links
            .iter()
            .filter(suits)
            .filter_map(|l| Some((l, self.ips(l).next()?)));
        addressed
            .min_by_key(|(link, _)| link.loopback)
            .map(|(link, ip)| self.underlay(link, ip))
    }

    fn underlay(&self, link: &Link, ip: Ipv4Addr) -> Underlay {
        let mtu = if link.loopback {
            link.mtu.min(USUAL_MTU)
        } else {
            link.mtu
        };
        let prefix = self.addresses.iter().find_map(|a| match a.net {
            IpNet::V4(net) if a.index == link.index && net.addr() == ip => Some(net.trunc()),
            _ => None,
        });
        let network = prefix.unwrap_or_else(|| Ipv4Net::from(ip));
        Underlay {
            index: link.index,
            name: link.name.clone(),
            ip,
            network,
            ipv6: self.ips_v6(link).next(),
            mtu,
        }
    }

    /// Addresses of a link that others can send to.
    fn ips(&self, link: &Link) -> impl Iterator<Item = Ipv4Addr> {
        let index = link.index;
        self.addresses
            .iter()
            .filter(move |a| a.index == index)
            .filter_map(|a| match a.net {
                IpNet::V4(net) => Some(net.addr()).filter(|ip| !ip.is_loopback() && !ip.is_link_local()),
                IpNet::V6(_) => None,
            })
    }

    /// IPv6 addresses of a link that others can send to.
    fn ips_v6(&self, link: &Link) -> impl Iterator<Item = Ipv6Net> {
        let index = link.index;
        self.addresses
            .iter()
            .filter(move |a| a.index == index)
            .filter_map(|a| match a.net {
                IpNet::V6(net) => Some(net).filter(|net| {
                    let ip = net.addr();
                    !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_multicast()
                }),
                IpNet::V4(_) => None,
            })
    }
}
