use std::net::IpAddr;

use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoIpTunnel, InfoKind, InfoPortData, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};

use super::MacAddr;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Ethernet address; none on links without one.
    pub mac: Option<MacAddr>,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Set up by an administrator.
    pub up: bool,
    /// Up and with a carrier.
    pub running: bool,
    /// The loopback device.
    pub loopback: bool,
    /// Promiscuous by administrator.
    pub promiscuous: bool,
    /// Index of the bridge (or other master) it is a port of.
    pub master: Option<u32>,
    /// Index of the link it stands on, or of the other end (in the other end's namespace).
    pub lower: Option<u32>,
    /// The namespace of that link or other end, by this namespace's number for it; none if it is here.
    pub lower_namespace: Option<i32>,
    /// As a bridge port: sends frames back out of the port they came in.
    pub hairpin: Option<bool>,
}

/// Kinds of links that knode tells apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A device of hardware, or loopback.
    Device,
    /// Software bridge.
    Bridge,
    /// One end of a virtual cable.
    Veth,
    /// VXLAN tunnel.
    Vxlan(Vxlan),
    /// IPv4 in IPv4.
    Ipip(IpTunnel),
    /// WireGuard.
    Wireguard,
    /// Any other, by the kernel's name for it.
    Other(String),
}

/// Attributes of a VXLAN device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vxlan {
    /// Network identifier, 24 bits.
    pub vni: u32,
    /// UDP port of the peers and of ourselves.
    pub port: u16,
    /// Source address of what it sends.
    pub local: Option<IpAddr>,
    /// Index of the link it sends through.
    pub underlay: Option<u32>,
    /// Learns stations from traffic.
    pub learning: bool,
    /// Carries the group of its policy in the header (group policy extension).
    pub gbp: bool,
}

/// Attributes of a tunnel that wraps packets in IP alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IpTunnel {
    /// Source address of what it sends.
    pub local: Option<IpAddr>,
    /// The only peer; none for one to many.
    pub remote: Option<IpAddr>,
}

impl Link {
    pub(crate) fn from_message(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: LinkKind::Device,
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Running),
            loopback: flags.contains(LinkFlags::Loopback),
            promiscuous: flags.contains(LinkFlags::Promisc),
            master: None,
            lower: None,
            lower_namespace: None,
            hairpin: None,
        };
        for attribute in &message.attributes {
            link.take(attribute);
        }
        link
    }

    fn take(&mut self, attribute: &LinkAttribute) {
        match attribute {
            LinkAttribute::IfName(name) => self.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => self.mtu = *mtu,
            LinkAttribute::Address(bytes) => self.mac = MacAddr::from_bytes(bytes),
            LinkAttribute::Controller(index) => self.master = Some(*index),
            LinkAttribute::Link(index) => self.lower = Some(*index),
            LinkAttribute::LinkNetNsId(number) => self.lower_namespace = Some(*number),
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|i| self.take_info(i)),
            _ => {}
        }
    }

    fn take_info(&mut self, info: &LinkInfo) {
        match info {
            LinkInfo::Kind(InfoKind::Bridge) => self.kind = LinkKind::Bridge,
            LinkInfo::Kind(InfoKind::Veth) => self.kind = LinkKind::Veth,
            LinkInfo::Kind(InfoKind::Vxlan) => self.kind = LinkKind::Vxlan(Vxlan::default()),
            LinkInfo::Kind(InfoKind::IpIp) => self.kind = LinkKind::Ipip(IpTunnel::default()),
            LinkInfo::Kind(InfoKind::Wireguard) => self.kind = LinkKind::Wireguard,
            LinkInfo::Kind(other) => self.kind = LinkKind::Other(other.to_string()),
            LinkInfo::Data(InfoData::Vxlan(infos)) => self.kind = LinkKind::Vxlan(Vxlan::from_infos(infos)),
            LinkInfo::Data(InfoData::IpTunnel(infos)) if matches!(self.kind, LinkKind::Ipip(_)) => {
                self.kind = LinkKind::Ipip(IpTunnel::from_infos(infos));
            }
            LinkInfo::PortData(InfoPortData::BridgePort(infos)) => {
                self.hairpin = infos.iter().find_map(|i| match i {
                    InfoBridgePort::HairpinMode(on) => Some(*on),
                    _ => None,
                });
            }
            _ => {}
        }
    }
}

impl Vxlan {
    fn from_infos(infos: &[InfoVxlan]) -> Self {
        let mut vxlan = Self::default();
        for info in infos {
            match info {
                InfoVxlan::Id(vni) => vxlan.vni = *vni,
                InfoVxlan::Port(port) => vxlan.port = *port,
                InfoVxlan::Local(ip) => vxlan.local = Some(IpAddr::V4(*ip)),
                InfoVxlan::Local6(ip) => vxlan.local = Some(IpAddr::V6(*ip)),
                InfoVxlan::Link(index) => vxlan.underlay = Some(*index),
                InfoVxlan::Learning(on) => vxlan.learning = *on,
                InfoVxlan::Gbp => vxlan.gbp = true,
                _ => {}
            }
        }
        vxlan
    }

    pub(crate) fn infos(&self) -> Vec<InfoVxlan> {
        let mut infos = vec![
            InfoVxlan::Id(self.vni),
            InfoVxlan::Port(self.port),
            InfoVxlan::Learning(self.learning),
        ];
        infos.extend(self.local.map(|ip| match ip {
            IpAddr::V4(ip) => InfoVxlan::Local(ip),
            IpAddr::V6(ip) => InfoVxlan::Local6(ip),
        }));
        infos.extend(self.underlay.map(InfoVxlan::Link));
        infos.extend(self.gbp.then_some(InfoVxlan::Gbp));
        infos
    }
}

impl IpTunnel {
    fn from_infos(infos: &[InfoIpTunnel]) -> Self {
        let mut tunnel = Self::default();
        for info in infos {
            match info {
                InfoIpTunnel::Local(ip) => tunnel.local = Some(*ip).filter(|ip| !ip.is_unspecified()),
                InfoIpTunnel::Remote(ip) => tunnel.remote = Some(*ip).filter(|ip| !ip.is_unspecified()),
                _ => {}
            }
        }
        tunnel
    }

    pub(crate) fn infos(&self) -> Vec<InfoIpTunnel> {
        let local = self.local.map(InfoIpTunnel::Local);
        local
            .into_iter()
            .chain(self.remote.map(InfoIpTunnel::Remote))
            .collect()
    }
}

/// Whether the kernel takes `name` for a link: 1 to 15 bytes, no slash, no space, not `.` or `..`.
pub fn is_link_name(name: &str) -> bool {
    let bytes_ok = name
        .bytes()
        .all(|b| b != b'/' && b != b':' && !b.is_ascii_whitespace() && b != 0);
    (1..=15).contains(&name.len()) && name != "." && name != ".." && bytes_ok
}
