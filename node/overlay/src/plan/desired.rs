use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use knode_netlink::{Event, IpTunnel, Link, LinkKind, MacAddr, Neighbour, Route, Vxlan};

use crate::config::{Backend, NetConf, VxlanConf};
use crate::lease::{BackendData, Lease, Leases};
use crate::underlay::Underlay;

/// Bytes that VXLAN over IPv4 adds to a packet.
const VXLAN_OVERHEAD: u32 = 50;
/// Likewise over IPv6.
const VXLAN_V6_OVERHEAD: u32 = 70;
/// Bytes that IPv4 in IPv4 adds to a packet.
const IPIP_OVERHEAD: u32 = 20;
/// Name of the IPIP device, upstream's.
const IPIP_DEVICE: &str = "flannel.ipip";
/// What the kernel gives routes of IPv6 by itself. In IPv4 a blackhole without metric would shut out the route that
/// comes along with a bridge's address.
const BLACKHOLE_METRIC: u32 = 1024;
/// Marks routes through the underlay as ours (`proto 107`), among those of others.
pub(super) const DIRECT_PROTOCOL: u8 = 107;

/// What the kernel should hold for one family of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
    /// The tunnel device, for backends that have one.
    pub device: Option<Device>,
    /// Index of the link to the other nodes.
    pub underlay: u32,
    /// Largest packet on the overlay, bytes.
    pub mtu: u32,
    /// The other nodes by subnet; unknown before the first list, and then nobody's entries are touched.
    pub peers: Option<Vec<Peer>>,
    /// Where packets lead nowhere that no better route takes: the node's own subnet, if at all.
    pub blackhole: Option<IpNet>,
}

/// A tunnel device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `flannel.<VNI>`, `flannel-v6.<VNI>` or `flannel.ipip`.
    pub name: String,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// What it is.
    pub tunnel: Tunnel,
    /// Its address, the first of the subnet, alone in its network.
    pub address: IpAddr,
    /// The kernel computes checksums before packets enter the tunnel: behind NAT those of the wrapping get lost.
    pub own_checksums: bool,
}

/// What a tunnel device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// VXLAN, with the Ethernet address that the lease tells.
    Vxlan(MacAddr, Vxlan),
    /// IPv4 in IPv4.
    Ipip(IpTunnel),
}

/// Another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its part of the pod network.
    pub subnet: IpNet,
    /// Its address on the underlay.
    pub public_ip: IpAddr,
    /// How packets get there.
    pub path: Path,
}

/// How packets get to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Through the tunnel, to this station.
    Tunnel(MacAddr),
    /// Through the tunnel, which itself finds the peer by its address.
    Wrapped,
    /// Plain, with the peer as router.
    Direct,
}

impl Desired {
    /// Derives what the kernel should hold on a node with this lease, a value for each family of the network. Leases
    /// of other backends, outside the network, or of ourselves are passed over.
    pub fn of(conf: &NetConf, underlay: &Underlay, own: &Lease, leases: Option<&Leases>) -> Vec<Self> {
        let view = View { conf, underlay, own };
        let v6 = view.ipv6().map(|side| side.desired(leases));
        [view.ipv4().desired(leases)].into_iter().chain(v6).collect()
    }

    /// Drops what goes to addresses of the node's own subnet that no better route takes.
    #[must_use]
    pub fn with_blackhole(self, own: &Lease) -> Self {
        let subnet = if self.ipv6 {
            own.ipv6_subnet.map(IpNet::V6)
        } else {
            Some(IpNet::V4(own.subnet))
        };
        Self {
            blackhole: subnet,
            ..self
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
            Event::Neighbour(entry) => ours(entry.index) && self.is_wrong(entry),
            Event::FdbGone(entry) => ours(entry.index),
            Event::Fdb(entry) => {
                let learnt = self.learns() && !entry.permanent;
                ours(entry.index) && !learnt && !self.has_fdb(entry.mac, entry.remote)
            }
            Event::RouteGone(route) | Event::Route(route) => {
                self.route_changed(route, matches!(event, Event::Route(_)))
            }
            Event::Address(_) => false,
        }
    }

    /// Whether the device finds stations by itself, too.
    pub(super) fn learns(&self) -> bool {
        let tunnel = self.device.as_ref().map(|d| d.tunnel);
        matches!(tunnel, Some(Tunnel::Vxlan(_, vxlan)) if vxlan.learning)
    }

    /// Whether an address is of this family.
    pub(super) fn is_of(&self, ip: IpAddr) -> bool {
        ip.is_ipv6() == self.ipv6
    }

    fn peers(&self) -> &[Peer] {
        self.peers.as_deref().unwrap_or_default()
    }

    fn peer(&self, subnet: IpAddr) -> Option<&Peer> {
        let peers = self.peers();
        let found = peers.binary_search_by_key(&subnet, |p| p.subnet.addr());
        found.ok().map(|at| &peers[at])
    }

    /// A neighbour that a peer does not have, or has otherwise. What the kernel finds out by itself is not ours.
    fn is_wrong(&self, entry: &Neighbour) -> bool {
        let peer = self.peer(entry.ip);
        let right = |p: &Peer| matches!(p.path, Path::Tunnel(mac) if Some(mac) == entry.mac);
        match peer {
            Some(peer) => !(entry.permanent && right(peer)),
            None => entry.permanent && self.is_of(entry.ip),
        }
    }

    fn has_fdb(&self, mac: MacAddr, remote: Option<IpAddr>) -> bool {
        let is = |p: &Peer| p.path == Path::Tunnel(mac) && Some(p.public_ip) == remote;
        self.peers().iter().any(is)
    }

    /// A route to a peer's subnet went, or came in another form than ours.
    fn route_changed(&self, route: &Route, came: bool) -> bool {
        if let Some(blackhole) = self.blackhole.map(blackhole)
            && blackhole.destination == route.destination
            && blackhole.metric == route.metric
        {
            return !came || !is_blackhole(route);
        }
        let peer = self.peer(route.destination.addr());
        let peer = peer.filter(|p| p.subnet == route.destination);
        peer.is_some_and(|p| !came || route.gateway != Some(p.gateway()))
    }
}

impl Device {
    /// Whether the link has what can be changed on it as it should be.
    pub(super) fn agrees(&self, link: &Link) -> bool {
        let mac = match self.tunnel {
            Tunnel::Vxlan(mac, _) => link.mac == Some(mac),
            Tunnel::Ipip(_) => true,
        };
        link.up && link.mtu == self.mtu && mac
    }

    /// Whether the link is the same tunnel, or has to be made anew.
    pub(super) fn same_tunnel(&self, link: &Link) -> bool {
        match (&link.kind, self.tunnel) {
            (LinkKind::Vxlan(have), Tunnel::Vxlan(_, want)) => *have == want,
            (LinkKind::Ipip(have), Tunnel::Ipip(want)) => *have == want,
            _ => false,
        }
    }
}

impl Peer {
    /// Its router: itself, or its tunnel device's address.
    pub(super) fn gateway(&self) -> IpAddr {
        match self.path {
            Path::Tunnel(_) => self.subnet.network(),
            Path::Direct | Path::Wrapped => self.public_ip,
        }
    }
}

/// What everything is derived from.
struct View<'a> {
    conf: &'a NetConf,
    underlay: &'a Underlay,
    own: &'a Lease,
}

impl<'a> View<'a> {
    fn ipv4(&'a self) -> Side<'a> {
        let (underlay, attributes) = (self.underlay, &self.own.attributes);
        Side {
            conf: self.conf,
            underlay,
            network: self.conf.network.into(),
            subnet: self.own.subnet.into(),
            link_ip: underlay.ip.into(),
            link_network: underlay.network.into(),
            own: &attributes.backend,
            behind_nat: attributes.public_ip != underlay.ip,
        }
    }

    /// `None` until network, lease and link all have IPv6.
    fn ipv6(&'a self) -> Option<Side<'a>> {
        let (underlay, attributes) = (self.underlay, &self.own.attributes);
        let address = underlay.ipv6?;
        Some(Side {
            conf: self.conf,
            underlay,
            network: self.conf.ipv6?.network.into(),
            subnet: self.own.ipv6_subnet?.into(),
            link_ip: address.addr().into(),
            link_network: address.trunc().into(),
            own: attributes.backend_v6.as_ref()?,
            behind_nat: attributes.public_ipv6 != Some(address.addr()),
        })
    }
}

/// One family of a [`View`].
struct Side<'a> {
    conf: &'a NetConf,
    underlay: &'a Underlay,
    network: IpNet,
    subnet: IpNet,
    link_ip: IpAddr,
    link_network: IpNet,
    own: &'a BackendData,
    behind_nat: bool,
}

impl Side<'_> {
    fn desired(&self, leases: Option<&Leases>) -> Desired {
        let device = self.device();
        let carried = !matches!(
            self.conf.backend,
            Backend::Alloc | Backend::Extension(_) | Backend::Wireguard(_)
        );
        let peers = leases.filter(|_| carried).map(|leases| {
            let peers = leases.peers.values().filter_map(|lease| self.peer(lease));
            let mut peers: Vec<_> = peers.collect();
            peers.sort_by_key(|p| p.subnet.addr());
            peers
        });
        Desired {
            ipv6: self.is_ipv6(),
            mtu: device.as_ref().map_or(self.underlay.mtu, |d| d.mtu),
            device,
            underlay: self.underlay.index,
            peers,
            blackhole: None,
        }
    }

    fn is_ipv6(&self) -> bool {
        self.network.addr().is_ipv6()
    }

    fn device(&self) -> Option<Device> {
        let (name, mtu, tunnel) = match (&self.conf.backend, self.own) {
            (Backend::Vxlan(conf), BackendData::Vxlan { mac, .. }) => self.vxlan(conf, *mac),
            (Backend::Ipip { .. }, BackendData::Ipip) if !self.is_ipv6() => {
                let tunnel = IpTunnel {
                    local: Some(self.link_ip),
                    remote: None,
                };
                let mtu = self.underlay.mtu.saturating_sub(IPIP_OVERHEAD);
                (IPIP_DEVICE.to_owned(), mtu, Tunnel::Ipip(tunnel))
            }
            _ => return None,
        };
        Some(Device {
            name,
            mtu,
            tunnel,
            address: self.subnet.network(),
            own_checksums: self.behind_nat,
        })
    }

    fn vxlan(&self, conf: &VxlanConf, mac: MacAddr) -> (String, u32, Tunnel) {
        let (name, overhead) = if self.is_ipv6() {
            ("flannel-v6", VXLAN_V6_OVERHEAD)
        } else {
            ("flannel", VXLAN_OVERHEAD)
        };
        let vxlan = Vxlan {
            vni: conf.vni,
            port: conf.port,
            local: Some(self.link_ip),
            underlay: Some(self.underlay.index),
            learning: conf.learning,
            gbp: conf.gbp,
        };
        let mtu = conf.mtu.unwrap_or(self.underlay.mtu).saturating_sub(overhead);
        (format!("{name}.{}", conf.vni), mtu, Tunnel::Vxlan(mac, vxlan))
    }

    fn peer(&self, lease: &Lease) -> Option<Peer> {
        let attributes = &lease.attributes;
        let (subnet, public_ip, data) = if self.is_ipv6() {
            let subnet = IpNet::V6(lease.ipv6_subnet?);
            (
                subnet,
                IpAddr::V6(attributes.public_ipv6?),
                attributes.backend_v6.as_ref()?,
            )
        } else {
            (
                IpNet::V4(lease.subnet),
                IpAddr::V4(attributes.public_ip),
                &attributes.backend,
            )
        };
        let near = self.link_network.contains(&public_ip);
        let path = match (&self.conf.backend, data) {
            (Backend::Vxlan(conf), BackendData::Vxlan { vni, mac }) if conf.vni == *vni => {
                let direct = conf.direct_routing && near;
                if direct { Path::Direct } else { Path::Tunnel(*mac) }
            }
            (Backend::Ipip { direct_routing }, BackendData::Ipip) => {
                let direct = *direct_routing && near;
                if direct { Path::Direct } else { Path::Wrapped }
            }
            (Backend::HostGw, BackendData::HostGw) => Path::Direct,
            _ => return None,
        };
        let foreign = subnet == self.subnet || !self.network.contains(&subnet);
        (!foreign).then_some(Peer {
            subnet,
            public_ip,
            path,
        })
    }
}

/// The route that drops what goes to a network; a bridge's own route is better in either family.
pub(crate) fn blackhole(network: IpNet) -> Route {
    Route {
        metric: BLACKHOLE_METRIC,
        protocol: DIRECT_PROTOCOL,
        ..Route::blackhole(network)
    }
}

/// Whether a route is one of ours that drop packets.
pub(crate) fn is_blackhole(route: &Route) -> bool {
    let metric = route.metric == BLACKHOLE_METRIC && route.table == Route::TABLE_MAIN;
    route.blackhole && metric && route.protocol == DIRECT_PROTOCOL
}

/// An address alone in its network.
pub(crate) fn alone(ip: IpAddr) -> IpNet {
    match ip {
        IpAddr::V4(ip) => Ipv4Net::from(ip).into(),
        IpAddr::V6(ip) => Ipv6Net::from(ip).into(),
    }
}

/// Names that tunnel devices of a configuration have, whatever else is different.
pub(crate) fn device_names(conf: &NetConf) -> Vec<String> {
    match &conf.backend {
        Backend::Vxlan(vxlan) => ["flannel", "flannel-v6"]
            .map(|n| format!("{n}.{}", vxlan.vni))
            .into(),
        Backend::Ipip { .. } => vec![IPIP_DEVICE.to_owned()],
        Backend::Wireguard(_) => ["flannel-wg", "flannel-wg-v6"].map(str::to_owned).into(),
        Backend::HostGw | Backend::Alloc | Backend::Extension(_) | Backend::Other(_) => Vec::new(),
    }
}

/// What an IPIP device to ask the kernel with looks like.
pub(crate) fn ipip_device(local: Ipv4Addr) -> (&'static str, IpTunnel) {
    let tunnel = IpTunnel {
        local: Some(local.into()),
        remote: None,
    };
    (IPIP_DEVICE, tunnel)
}
