//! Which interface leads to the other nodes; pure.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
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
    /// No interface has the node's address.
    #[error("no interface has the node's address {0}")]
    NoSuchAddress(Ipv4Addr),
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
        return match text.parse::<Ipv4Addr>() {
            Ok(ip) => host.with_address(ip),
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
    Some(host.underlay(link, ip))
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
            .ok_or(UnderlayError::NoSuchAddress(ip))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            kind: LinkKind::Device,
            mac: None,
            mtu: 1500,
            up: true,
            running: true,
            loopback: name == "lo",
            promiscuous: false,
            master: None,
            lower: None,
            hairpin: None,
        }
    }

    fn address(index: u32, net: &str) -> Address {
        Address {
            index,
            net: net.parse().unwrap(),
        }
    }

    fn pick(
        routes: &[Route],
        interface: Option<&str>,
        node_ip: Option<&str>,
    ) -> Result<String, UnderlayError> {
        let lo = Link {
            mtu: 65536,
            ..link(1, "lo")
        };
        let links = [lo, link(2, "eth0"), link(3, "eth1")];
        let addresses = [
            address(1, "127.0.0.1/8"),
            address(2, "169.254.7.7/16"),
            address(2, "192.0.2.1/24"),
            address(3, "198.51.100.1/24"),
            address(3, "198.51.100.2/24"),
        ];
        let wish = Wish {
            interface: interface.map(Into::into),
            node_ip: node_ip.map(|ip| ip.parse().unwrap()),
            public_ip: None,
        };
        choose(&links, &addresses, routes, &wish).map(|u| format!("{} {} {}", u.name, u.ip, u.mtu))
    }

    fn default(link: u32, metric: u32) -> Route {
        let route = Route::via("0.0.0.0/0".parse().unwrap(), "192.0.2.254".parse().unwrap(), link);
        Route { metric, ..route }
    }

    #[test]
    fn the_interface_is_followed() {
        let links = [link(1, "lo"), link(2, "eth0")];
        let before = [address(2, "192.0.2.1/24")];
        let wish = Wish::default();
        let current = choose(&links, &before, &[], &wish).unwrap();
        let both = [address(2, "192.0.2.9/24"), address(2, "192.0.2.1/24")];
        assert_eq!(
            follow(&links, &both, &current).as_ref(),
            Some(&current),
            "kept while it is there"
        );
        let moved = follow(&links, &both[..1], &current).unwrap();
        assert_eq!((moved.ip.to_string().as_str(), moved.index), ("192.0.2.9", 2));
        assert_eq!(follow(&links, &[], &current), None);
        assert_eq!(follow(&links[..1], &before, &current), None);
        let mut down = links.clone();
        down[1].up = false;
        assert_eq!(follow(&down, &before, &current), None);
        let mut jumbo = links.clone();
        jumbo[1].mtu = 9000;
        assert_eq!(follow(&jumbo, &before, &current).unwrap().mtu, 9000);
    }

    #[test]
    fn the_first_interface_that_is_there_is_taken() {
        let links = [link(1, "lo"), link(2, "eth0"), link(3, "wlan0")];
        let addresses = [address(2, "192.0.2.1/24"), address(3, "198.51.100.1/24")];
        let find = |named: &[&str], patterns: &[&str], reach: Option<&str>| {
            let asked = Interfaces {
                named: named.iter().map(|n| (*n).to_owned()).collect(),
                patterns: patterns.iter().map(|n| (*n).to_owned()).collect(),
                can_reach: reach.map(|_| "203.0.113.1".parse().unwrap()),
            };
            let source = reach.filter(|r| !r.is_empty()).map(|r| r.parse().unwrap());
            search(&links, &addresses, &[default(3, 0)], &asked, source).map(|u| u.name)
        };
        assert_eq!(find(&[], &[], None).unwrap(), "wlan0");
        assert_eq!(find(&["eth9", "eth0"], &["wlan"], None).unwrap(), "eth0");
        assert_eq!(find(&["eth9"], &["^wl"], None).unwrap(), "wlan0");
        assert_eq!(find(&[], &[r"192\.0\.2\.\d+", "wlan"], None).unwrap(), "eth0");
        assert_eq!(find(&[], &["^x"], Some("192.0.2.1")).unwrap(), "eth0");
        assert_eq!(
            find(&["eth9"], &[], None),
            Err(UnderlayError::NoSuchInterface("eth9".into()))
        );
        assert_eq!(find(&[], &["^x"], None), Err(UnderlayError::NoMatch("^x".into())));
        assert!(matches!(
            find(&[], &["("], Some("192.0.2.1")),
            Err(UnderlayError::Pattern { .. })
        ));
        assert!(matches!(
            find(&[], &[], Some("")),
            Err(UnderlayError::Unreachable(_))
        ));
    }

    #[test]
    fn the_default_route_with_the_smallest_metric_decides() {
        assert_eq!(
            pick(&[default(2, 100), default(3, 50)], None, None).unwrap(),
            "eth1 198.51.100.1 1500"
        );
        let source = Route {
            source: Some("198.51.100.2".parse().unwrap()),
            ..default(3, 0)
        };
        assert_eq!(pick(&[source], None, None).unwrap(), "eth1 198.51.100.2 1500");
    }

    #[test]
    fn wishes_come_first() {
        let routes = [default(2, 0)];
        assert_eq!(
            pick(&routes, Some("eth1"), None).unwrap(),
            "eth1 198.51.100.1 1500"
        );
        assert_eq!(
            pick(&routes, Some("eth1"), Some("198.51.100.2")).unwrap(),
            "eth1 198.51.100.2 1500"
        );
        assert_eq!(
            pick(&routes, Some("198.51.100.2"), None).unwrap(),
            "eth1 198.51.100.2 1500"
        );
        assert_eq!(
            pick(&routes, None, Some("198.51.100.2")).unwrap(),
            "eth1 198.51.100.2 1500"
        );
        assert_eq!(
            pick(&routes, None, Some("127.0.0.1")).unwrap(),
            "lo 127.0.0.1 1500"
        );
    }

    #[test]
    fn without_a_default_route_the_first_address_serves() {
        assert_eq!(pick(&[], None, None).unwrap(), "eth0 192.0.2.1 1500");
        assert_eq!(
            choose(
                &[link(1, "lo")],
                &[address(1, "127.0.0.1/8")],
                &[],
                &Wish::default()
            ),
            Err(UnderlayError::None)
        );
    }

    #[test]
    fn loopback_serves_only_with_an_address_for_others() {
        let lo = [Link {
            mtu: 65536,
            ..link(1, "lo")
        }];
        let addresses = [address(1, "127.0.0.1/8"), address(1, "203.0.113.1/32")];
        let chosen = choose(&lo, &addresses, &[], &Wish::default()).unwrap();
        assert_eq!(
            (chosen.ip.to_string(), chosen.network.to_string()),
            ("203.0.113.1".into(), "203.0.113.1/32".into())
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(
            pick(&[], Some("eth9"), None).unwrap_err().to_string(),
            "there is no interface eth9"
        );
        assert_eq!(
            pick(&[], Some("lo"), None).unwrap_err().to_string(),
            "interface lo has no IPv4 address"
        );
        let missing = pick(&[], None, Some("203.0.113.1")).unwrap_err().to_string();
        assert_eq!(missing, "no interface has the node's address 203.0.113.1");
    }
}
