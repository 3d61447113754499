use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use knode_netlink::{Event, Link, LinkKind, MacAddr, Route, Vxlan};

use crate::config::{Backend, NetConf};
use crate::lease::{BackendData, Lease, Leases};
use crate::underlay::Underlay;

/// Bytes that VXLAN over IPv4 adds to a packet.
const VXLAN_OVERHEAD: u32 = 50;
/// Marks routes through the underlay as ours (`proto 107`), among those of others.
pub(super) const DIRECT_PROTOCOL: u8 = 107;

/// What the kernel should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The tunnel device, for backends that have one.
    pub device: Option<Device>,
    /// Index of the link to the other nodes.
    pub underlay: u32,
    /// Largest packet on the overlay, bytes.
    pub mtu: u32,
    /// The other nodes; unknown before the first list, and then nobody's entries are touched.
    pub peers: Option<Vec<Peer>>,
}

/// The VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `flannel.<VNI>`.
    pub name: String,
    /// The Ethernet address that the lease tells.
    pub mac: MacAddr,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Its other attributes.
    pub vxlan: Vxlan,
    /// Its address, the first of the subnet, alone in its network.
    pub address: Ipv4Addr,
}

/// Another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its part of the pod network.
    pub subnet: Ipv4Net,
    /// Its address on the underlay.
    pub public_ip: Ipv4Addr,
    /// How packets get there.
    pub path: Path,
}

/// How packets get to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Through the tunnel, to this station.
    Tunnel(MacAddr),
    /// Plain, with the peer as router.
    Direct,
}

impl Desired {
    /// Derives what the kernel should hold on a node with this lease. Leases of other backends, outside the network,
    /// or of ourselves are passed over.
    pub fn derive(conf: &NetConf, underlay: &Underlay, own: &Lease, leases: Option<&Leases>) -> Self {
        let device = device(conf, underlay, own);
        let mtu = device.as_ref().map_or(underlay.mtu, |d| d.mtu);
        let peers = leases.map(|l| {
            l.peers
                .values()
                .filter_map(|lease| peer(conf, underlay, own, lease))
                .collect()
        });
        Self {
            device,
            underlay: underlay.index,
            mtu,
            peers,
        }
    }

    /// The MTU that the overlay has over this underlay.
    pub fn mtu(conf: &NetConf, underlay: &Underlay) -> u32 {
        match &conf.backend {
            Backend::Vxlan(vxlan) => vxlan
                .mtu
                .unwrap_or_else(|| underlay.mtu.saturating_sub(VXLAN_OVERHEAD)),
            _ => underlay.mtu,
        }
    }

    /// Whether a change in the kernel may have undone something of this. `device` is the tunnel device's index.
    pub fn concerned(&self, device: Option<u32>, event: &Event) -> bool {
        let ours = |index: u32| Some(index) == device;
        match event {
            Event::Lost => true,
            Event::Link(link) => self
                .device
                .as_ref()
                .is_some_and(|d| link.name == d.name && !d.agrees(link)),
            Event::LinkGone(link) => {
                self.device.as_ref().is_some_and(|d| link.name == d.name) || ours(link.index)
            }
            Event::AddressGone(address) => ours(address.index),
            Event::NeighbourGone(entry) => ours(entry.index) && entry.permanent,
            Event::Neighbour(entry) => ours(entry.index) && !self.has_neighbour(entry.ip, entry.mac),
            Event::FdbGone(entry) => ours(entry.index),
            Event::Fdb(entry) => ours(entry.index) && !self.has_fdb(entry.mac, entry.remote),
            Event::RouteGone(route) | Event::Route(route) => {
                self.route_changed(route, matches!(event, Event::Route(_)))
            }
            Event::Address(_) => false,
        }
    }

    fn peers(&self) -> &[Peer] {
        self.peers.as_deref().unwrap_or_default()
    }

    fn has_neighbour(&self, ip: IpAddr, mac: Option<MacAddr>) -> bool {
        let is = |p: &Peer| {
            IpAddr::V4(p.subnet.network()) == ip && matches!(p.path, Path::Tunnel(m) if Some(m) == mac)
        };
        ip.is_ipv6() || self.peers().iter().any(is)
    }

    fn has_fdb(&self, mac: MacAddr, remote: Option<IpAddr>) -> bool {
        let is = |p: &Peer| p.path == Path::Tunnel(mac) && Some(IpAddr::V4(p.public_ip)) == remote;
        self.peers().iter().any(is)
    }

    /// A route to a peer's subnet went, or came in another form than ours.
    fn route_changed(&self, route: &Route, came: bool) -> bool {
        let peer = self.peers().iter().find(|p| route.destination == p.subnet.into());
        peer.is_some_and(|p| !came || route.gateway != Some(p.gateway()))
    }
}

impl Device {
    /// Whether the link has what can be changed on it as it should be.
    pub(super) fn agrees(&self, link: &Link) -> bool {
        link.up && link.mtu == self.mtu && link.mac == Some(self.mac)
    }

    /// Whether the link is the same tunnel, or has to be made anew.
    pub(super) fn same_tunnel(&self, link: &Link) -> bool {
        matches!(link.kind, LinkKind::Vxlan(vxlan) if vxlan == self.vxlan)
    }
}

impl Peer {
    /// Its router: itself, or its tunnel device's address.
    pub(super) fn gateway(&self) -> IpAddr {
        match self.path {
            Path::Tunnel(_) => self.subnet.network().into(),
            Path::Direct => self.public_ip.into(),
        }
    }
}

fn device(conf: &NetConf, underlay: &Underlay, own: &Lease) -> Option<Device> {
    let (Backend::Vxlan(vxlan), BackendData::Vxlan { mac, .. }) = (&conf.backend, &own.attributes.backend)
    else {
        return None;
    };
    Some(Device {
        name: format!("flannel.{}", vxlan.vni),
        mac: *mac,
        mtu: Desired::mtu(conf, underlay),
        vxlan: Vxlan {
            vni: vxlan.vni,
            port: vxlan.port,
            local: Some(underlay.ip.into()),
            underlay: Some(underlay.index),
            learning: false,
        },
        address: own.subnet.network(),
    })
}

fn peer(conf: &NetConf, underlay: &Underlay, own: &Lease, lease: &Lease) -> Option<Peer> {
    let foreign = lease.subnet == own.subnet || !conf.network.contains(&lease.subnet);
    let path = match (&conf.backend, &lease.attributes.backend) {
        (Backend::Vxlan(conf), BackendData::Vxlan { vni, mac }) if conf.vni == *vni => {
            let near = conf.direct_routing && underlay.network.contains(&lease.attributes.public_ip);
            if near { Path::Direct } else { Path::Tunnel(*mac) }
        }
        (Backend::HostGw, BackendData::HostGw) => Path::Direct,
        _ => return None,
    };
    (!foreign).then_some(Peer {
        subnet: lease.subnet,
        public_ip: lease.attributes.public_ip,
        path,
    })
}
