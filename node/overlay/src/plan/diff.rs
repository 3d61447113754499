use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use knode_netlink::{FdbEntry, Link, MacAddr, Neighbour, Route};

use super::desired::{DIRECT_PROTOCOL, Desired, Device, Path, Peer, Tunnel, alone, is_blackhole};

/// What the kernel holds, as far as it concerns the overlay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The link that has the device's name.
    pub device: Option<Link>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Routes through it or through the underlay.
    pub routes: Vec<Route>,
    /// Its neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Its forwarding entries.
    pub fdb: Vec<FdbEntry>,
    /// Routes of the family that drop packets, in all tables.
    pub blackholes: Vec<Route>,
}

/// One change. The device is meant where no link is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Delete a link that is in the device's way.
    DeleteDevice(u32),
    /// Create the device.
    CreateDevice(Device),
    /// Set what can be set on the device, and set it up.
    ChangeDevice(Device),
    /// Take an address away.
    DropAddress(IpNet),
    /// Give the device its address.
    SetAddress(IpNet),
    /// Delete a route.
    DropRoute(Route),
    /// Delete a neighbour.
    DropNeighbour(Neighbour),
    /// Delete a forwarding entry.
    DropFdb(FdbEntry),
    /// Set a neighbour.
    SetNeighbour(IpAddr, MacAddr),
    /// Set a forwarding entry.
    SetFdb(MacAddr, IpAddr),
    /// Set the route to a peer.
    SetRoute(Peer),
    /// Set the route that drops what goes to a network.
    SetBlackhole(IpNet),
}

/// The steps from `observed` to `desired`, in the order to take them.
pub fn plan(desired: &Desired, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let link = device_steps(desired, observed, &mut steps);
    let index = link.map(|l| l.index);
    let remaining = if desired.device.is_some() && link.is_none() {
        without_device(observed)
    } else {
        observed.clone()
    };
    if let Some(device) = &desired.device {
        address_steps(device, &remaining, &mut steps);
    }
    if let Some(peers) = &desired.peers {
        drop_steps(desired, peers, &remaining, index, &mut steps);
        set_steps(desired, peers, &remaining, index, &mut steps);
    }
    blackhole_steps(desired.blackhole, &observed.blackholes, &mut steps);
    steps
}

fn blackhole_steps(want: Option<IpNet>, observed: &[Route], steps: &mut Vec<Step>) {
    let ours = || observed.iter().filter(|r| is_blackhole(r));
    let stale = ours().filter(|r| Some(r.destination) != want);
    steps.extend(stale.map(|r| Step::DropRoute(*r)));
    if let Some(network) = want.filter(|want| !ours().any(|r| r.destination == *want)) {
        steps.push(Step::SetBlackhole(network));
    }
}

/// Returns the device's link when it can stay.
fn device_steps<'a>(desired: &Desired, observed: &'a Observed, steps: &mut Vec<Step>) -> Option<&'a Link> {
    let device = desired.device.as_ref()?;
    match &observed.device {
        Some(link) if device.same_tunnel(link) => {
            if !device.agrees(link) {
                steps.push(Step::ChangeDevice(device.clone()));
            }
            return Some(link);
        }
        Some(link) => steps.push(Step::DeleteDevice(link.index)),
        None => {}
    }
    steps.push(Step::CreateDevice(device.clone()));
    None
}

/// Addresses that the link gives itself stay.
fn address_steps(device: &Device, observed: &Observed, steps: &mut Vec<Step>) {
    let want = alone(device.address);
    let of_family = |a: &&IpNet| a.addr().is_ipv4() == device.address.is_ipv4() && !is_link_local(a);
    let wrong = observed
        .addresses
        .iter()
        .filter(of_family)
        .filter(|a| **a != want);
    steps.extend(wrong.map(|a| Step::DropAddress(*a)));
    if !observed.addresses.contains(&want) {
        steps.push(Step::SetAddress(want));
    }
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

fn drop_steps(
    desired: &Desired,
    peers: &[Peer],
    observed: &Observed,
    device: Option<u32>,
    steps: &mut Vec<Step>,
) {
    let subnets: BTreeSet<IpNet> = peers.iter().map(|p| p.subnet).collect();
    let stale = |r: &&Route| ours(desired, r, device) && !subnets.contains(&r.destination);
    steps.extend(observed.routes.iter().filter(stale).map(|r| Step::DropRoute(*r)));

    let tunnels = || peers.iter().filter_map(tunnel);
    let ips: BTreeSet<IpAddr> = tunnels().map(|(peer, _)| peer.gateway()).collect();
    let stale = |n: &&Neighbour| n.permanent && desired.is_of(n.ip) && !ips.contains(&n.ip);
    steps.extend(
        observed
            .neighbours
            .iter()
            .filter(stale)
            .map(|n| Step::DropNeighbour(*n)),
    );

    let macs: BTreeSet<MacAddr> = tunnels().map(|(_, mac)| mac).collect();
    let learnt = |e: &FdbEntry| desired.learns() && !e.permanent;
    // Setting an entry replaces what it had: only a station that nobody has any more is dropped.
    let stale = |e: &&FdbEntry| !macs.contains(&e.mac) && !learnt(e);
    steps.extend(observed.fdb.iter().filter(stale).map(|e| Step::DropFdb(*e)));
}

fn set_steps(
    desired: &Desired,
    peers: &[Peer],
    observed: &Observed,
    device: Option<u32>,
    steps: &mut Vec<Step>,
) {
    let neighbours: BTreeMap<IpAddr, &Neighbour> = observed.neighbours.iter().map(|n| (n.ip, n)).collect();
    let fdb: BTreeSet<(MacAddr, IpAddr)> = observed
        .fdb
        .iter()
        .filter(|e| e.permanent)
        .filter_map(|e| Some((e.mac, e.remote?)))
        .collect();
    let routes: BTreeSet<_> = observed
        .routes
        .iter()
        .map(|r| (r.destination, r.link, r.gateway))
        .collect();
    for peer in peers {
        if let Some((_, mac)) = tunnel(peer) {
            let neighbour = neighbours.get(&peer.gateway());
            if !neighbour.is_some_and(|n| n.permanent && n.mac == Some(mac)) {
                steps.push(Step::SetNeighbour(peer.gateway(), mac));
            }
            if !fdb.contains(&(mac, peer.public_ip)) {
                steps.push(Step::SetFdb(mac, peer.public_ip));
            }
        }
        let link = if peer.path == Path::Direct {
            Some(desired.underlay)
        } else {
            device
        };
        if link.is_none() || !routes.contains(&(peer.subnet, link, Some(peer.gateway()))) {
            steps.push(Step::SetRoute(*peer));
        }
    }
}

fn tunnel(peer: &Peer) -> Option<(&Peer, MacAddr)> {
    match peer.path {
        Path::Tunnel(mac) => Some((peer, mac)),
        Path::Wrapped | Path::Direct => None,
    }
}

/// Routes that only we can have made: through the device, or with our mark.
fn ours(desired: &Desired, route: &Route, device: Option<u32>) -> bool {
    let on_device = device.is_some() && route.link == device && route.protocol != Route::PROTOCOL_KERNEL;
    desired.is_of(route.destination.addr()) && (on_device || route.protocol == DIRECT_PROTOCOL)
}

/// Whether a route is one of ours through the underlay.
pub(crate) fn is_direct_route(route: &Route) -> bool {
    route.protocol == DIRECT_PROTOCOL
}

/// What is left when the device is made anew.
fn without_device(observed: &Observed) -> Observed {
    let routes = observed
        .routes
        .iter()
        .filter(|r| r.protocol == DIRECT_PROTOCOL)
        .copied()
        .collect();
    Observed {
        routes,
        ..Observed::default()
    }
}

impl Step {
    /// The route to a peer; `device` is the tunnel device's index.
    pub(crate) fn route(peer: &Peer, device: u32, underlay: u32) -> Route {
        let link = if peer.path == Path::Direct {
            underlay
        } else {
            device
        };
        let route = Route::via(peer.subnet, peer.gateway(), link);
        match peer.path {
            Path::Tunnel(_) | Path::Wrapped => Route {
                onlink: true,
                ..route
            },
            Path::Direct => Route {
                protocol: DIRECT_PROTOCOL,
                ..route
            },
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vxlan(mac, _) => mac.fmt(f),
            Self::Ipip(_) => f.write_str("ipip"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteDevice(index) => write!(f, "delete link #{index}"),
            Self::CreateDevice(d) => write!(f, "create {} {} mtu {}", d.name, d.tunnel, d.mtu),
            Self::ChangeDevice(d) => write!(f, "change {} {} mtu {} up", d.name, d.tunnel, d.mtu),
            Self::DropAddress(net) => write!(f, "drop address {net}"),
            Self::SetAddress(net) => write!(f, "set address {net}"),
            Self::DropRoute(route) => write!(f, "drop route {}", route.destination),
            Self::DropNeighbour(entry) => write!(f, "drop neighbour {}", entry.ip),
            Self::DropFdb(entry) => write!(f, "drop fdb {}", entry.mac),
            Self::SetNeighbour(ip, mac) => write!(f, "set neighbour {ip} {mac}"),
            Self::SetFdb(mac, remote) => write!(f, "set fdb {mac} at {remote}"),
            Self::SetRoute(peer) => write!(f, "set route {} via {}", peer.subnet, peer.gateway()),
            Self::SetBlackhole(network) => write!(f, "set blackhole {network}"),
        }
    }
}
