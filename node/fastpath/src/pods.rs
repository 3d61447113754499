//! Which pods there are, from what the kernel tells of a bridge: whose address is where.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use knode_netlink::{Event, Link, LinkKind, MacAddr};

/// Where a pod's address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Station {
    /// Index of the host's end of the pod's cable.
    pub port: u32,
    /// Ethernet address of the pod's end.
    pub mac: MacAddr,
}

/// A bridge, its ports, and who was seen behind them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub index: u32,
    pub mac: Option<MacAddr>,
    ports: HashMap<u32, Link>,
    /// The bridge's forwarding database.
    stations: HashMap<MacAddr, u32>,
    neighbours: HashMap<IpAddr, MacAddr>,
}

/// What an event means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing.
    None,
    /// Pods came, went or moved.
    Pods,
    /// Tunnels lead to others.
    Peers,
    /// The host's other interfaces, or the bridge itself: everything is to be read anew.
    Links,
}

impl Bridge {
    /// A bridge as it stands among all links, nobody known behind it yet.
    pub fn among(links: &[Link], name: &str) -> Option<Self> {
        let bridge = links
            .iter()
            .find(|l| l.name == name && l.kind == LinkKind::Bridge)?;
        let ports = links.iter().filter(|l| is_port(l, bridge.index));
        Some(Self {
            index: bridge.index,
            mac: bridge.mac,
            ports: ports.map(|l| (l.index, l.clone())).collect(),
            ..Self::default()
        })
    }

    /// Indices of its cables' ends.
    pub fn ports(&self) -> impl Iterator<Item = u32> {
        self.ports.keys().copied()
    }

    /// The namespace of a cable's other end, by its number here.
    pub fn namespace(&self, port: u32) -> Option<i32> {
        self.ports.get(&port)?.lower_namespace
    }

    /// Takes in one change.
    pub fn take(&mut self, event: &Event) -> News {
        match event {
            Event::Link(link) if is_port(link, self.index) => {
                self.ports.insert(link.index, link.clone());
                News::None
            }
            Event::LinkGone(link) if self.ports.remove(&link.index).is_some() => {
                self.stations.retain(|_, port| *port != link.index);
                News::Pods
            }
            Event::Link(_) | Event::LinkGone(_) | Event::Lost => News::Links,
            Event::Neighbour(n) if n.index == self.index => {
                let before = match n.mac {
                    Some(mac) if is_routable(n.ip) => self.neighbours.insert(n.ip, mac),
                    _ => self.neighbours.remove(&n.ip),
                };
                news(before != n.mac)
            }
            Event::NeighbourGone(n) if n.index == self.index => news(self.neighbours.remove(&n.ip).is_some()),
            Event::Fdb(entry) if !entry.permanent && self.ports.contains_key(&entry.index) => {
                news(self.stations.insert(entry.mac, entry.index) != Some(entry.index))
            }
            Event::FdbGone(entry) if self.stations.get(&entry.mac) == Some(&entry.index) => {
                self.stations.remove(&entry.mac);
                News::Pods
            }
            _ => News::None,
        }
    }

    /// Where each pod's address leads.
    pub fn pods(&self) -> BTreeMap<IpAddr, Station> {
        let station = |(ip, mac): (&IpAddr, &MacAddr)| {
            let port = *self.stations.get(mac)?;
            Some((*ip, Station { port, mac: *mac }))
        };
        self.neighbours.iter().filter_map(station).collect()
    }
}

/// Whether packets of other hosts may come in by a link: an Ethernet interface that stands for itself.
pub(crate) fn is_uplink(link: &Link, bridge: u32) -> bool {
    let stands_for_itself = link.master.is_none() && link.index != bridge;
    link.up && !link.loopback && link.mac.is_some() && stands_for_itself
}

fn is_port(link: &Link, bridge: u32) -> bool {
    link.master == Some(bridge) && link.kind == LinkKind::Veth
}

fn is_routable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_multicast(),
    }
}

fn news(changed: bool) -> News {
    if changed { News::Pods } else { News::None }
}
