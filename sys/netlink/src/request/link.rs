use std::fmt;
use std::os::fd::AsRawFd;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage,
};

use super::{NEW, Request};
use crate::model::{MacAddr, Vxlan};
use crate::netns::Netns;

/// A link by name or index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkRef<'a> {
    /// By number.
    Index(u32),
    /// By name.
    Name(&'a str),
}

impl From<u32> for LinkRef<'_> {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<&'a str> for LinkRef<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for LinkRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "#{index}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A bridge to create, up.
#[derive(Debug, Clone)]
pub struct BridgeSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Fixed Ethernet address; otherwise it changes with the ports.
    pub mac: Option<MacAddr>,
    /// Largest packet, bytes.
    pub mtu: u32,
}

/// A virtual cable to create in one step: this end up, the other down and in another namespace.
#[derive(Debug, Clone)]
pub struct VethSpec<'a> {
    /// This end's name.
    pub name: &'a str,
    /// Largest packet of both ends, bytes.
    pub mtu: u32,
    /// Bridge that this end becomes a port of, by index.
    pub master: Option<u32>,
    /// The other end's name.
    pub peer_name: &'a str,
    /// The other end's Ethernet address.
    pub peer_mac: Option<MacAddr>,
    /// The other end's namespace; this end's own where none is given.
    pub peer_netns: Option<&'a Netns>,
}

/// What to change of a link; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct LinkChange<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// Largest packet, bytes.
    pub mtu: Option<u32>,
    /// Ethernet address.
    pub mac: Option<MacAddr>,
    /// Index of the new master; 0 for none.
    pub master: Option<u32>,
    /// As a bridge port: send frames back out of the port they came in.
    pub hairpin: Option<bool>,
    /// Promiscuous mode.
    pub promiscuous: Option<bool>,
    /// New name (the link has to be given by index, and be down on old kernels).
    pub name: Option<&'a str>,
    /// Namespace to move to.
    pub netns: Option<&'a Netns>,
    /// Group of links that it belongs to; 0 is everybody's.
    pub group: Option<u32>,
}

/// Creates a bridge and sets it up.
pub fn add_bridge(spec: &BridgeSpec<'_>) -> Request {
    let mut message = named(spec.name);
    set_up(&mut message, true);
    message.attributes.push(LinkAttribute::Mtu(spec.mtu));
    message
        .attributes
        .extend(spec.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    Request::new(
        "add bridge",
        spec.name,
        RouteNetlinkMessage::NewLink(message),
        NEW,
    )
}

/// Creates a pair of virtual Ethernet links and sets this end up.
pub fn add_veth(spec: &VethSpec<'_>) -> Request {
    // The kernel cannot set the peer up before it is connected (`veth_open`: ENOTCONN).
    let mut peer = named(spec.peer_name);
    peer.attributes.push(LinkAttribute::Mtu(spec.mtu));
    peer.attributes
        .extend(spec.peer_mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    peer.attributes
        .extend(spec.peer_netns.map(|n| LinkAttribute::NetNsFd(n.as_raw_fd())));

    let mut message = named(spec.name);
    set_up(&mut message, true);
    message.attributes.push(LinkAttribute::Mtu(spec.mtu));
    message
        .attributes
        .extend(spec.master.map(LinkAttribute::Controller));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    let object = format!("{} to {}", spec.name, spec.peer_name);
    let mut request = Request::new("add veth", object, RouteNetlinkMessage::NewLink(message), NEW);
    request.netns = spec.peer_netns.cloned();
    request
}

/// Creates a VXLAN device, down.
pub fn add_vxlan(name: &str, mac: MacAddr, mtu: u32, vxlan: &Vxlan) -> Request {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Mtu(mtu));
    message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vxlan),
        LinkInfo::Data(InfoData::Vxlan(vxlan.infos())),
    ]));
    let object = format!("{name} (vni {}, port {})", vxlan.vni, vxlan.port);
    Request::new("add vxlan", object, RouteNetlinkMessage::NewLink(message), NEW)
}

/// Changes a link.
pub fn change_link<'a>(link: impl Into<LinkRef<'a>>, change: &LinkChange<'_>) -> Request {
    let link = link.into();
    let mut message = select(link);
    if let Some(up) = change.up {
        set_up(&mut message, up);
    }
    if let Some(on) = change.promiscuous {
        message.header.flags.set(LinkFlags::Promisc, on);
        message.header.change_mask |= LinkFlags::Promisc;
    }
    let attributes = &mut message.attributes;
    attributes.extend(change.mtu.map(LinkAttribute::Mtu));
    attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    attributes.extend(change.master.map(LinkAttribute::Controller));
    attributes.extend(change.name.map(|name| LinkAttribute::IfName(name.to_owned())));
    attributes.extend(change.group.map(LinkAttribute::Group));
    attributes.extend(change.netns.map(|n| LinkAttribute::NetNsFd(n.as_raw_fd())));
    attributes.extend(change.hairpin.map(|on| {
        LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(on)])),
        ])
    }));
    let mut request = Request::new("change link", link, RouteNetlinkMessage::NewLink(message), 0);
    request.netns = change.netns.cloned();
    request
}

/// Deletes a link (of a virtual cable: both ends).
pub fn delete_link<'a>(link: impl Into<LinkRef<'a>>) -> Request {
    let link = link.into();
    Request::new("delete link", link, RouteNetlinkMessage::DelLink(select(link)), 0)
}

/// Deletes all links of a group, which costs hardly more than one. The group must not be 0.
pub fn delete_group(group: u32) -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    Request::new(
        "delete links of group",
        group,
        RouteNetlinkMessage::DelLink(message),
        0,
    )
}

pub(crate) fn get_link(link: LinkRef<'_>) -> RouteNetlinkMessage {
    let mut message = select(link);
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

pub(crate) fn dump_links() -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

pub(super) fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn select(link: LinkRef<'_>) -> LinkMessage {
    match link {
        LinkRef::Name(name) => named(name),
        LinkRef::Index(index) => {
            let mut message = LinkMessage::default();
            message.header.index = index;
            message
        }
    }
}

fn set_up(message: &mut LinkMessage, up: bool) {
    message.header.flags.set(LinkFlags::Up, up);
    message.header.change_mask |= LinkFlags::Up;
}
