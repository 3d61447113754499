use knode_netlink::generic::wireguard::Key;

use super::wire::WireBackend;
use super::{NetConfError, field};
use crate::lease::key;

/// How packets travel between nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// In UDP, made by the kernel.
    Vxlan(VxlanConf),
    /// Plain, routed by the nodes; they must share a link.
    HostGw,
    /// In IPv4 alone, made by the kernel.
    Ipip {
        /// Plain routes to nodes on the same link.
        direct_routing: bool,
    },
    /// Encrypted, by the kernel's WireGuard.
    Wireguard(WireguardConf),
    /// Not at all: only subnets are leased, others care for the rest.
    Alloc,
    /// By the administrator's commands.
    Extension(ExtensionConf),
    /// Any other that upstream has or had, by its name.
    Other(String),
}

/// Configuration of VXLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanConf {
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Plain routes to nodes on the same link.
    pub direct_routing: bool,
    /// Largest packet with its wrapping, bytes, instead of the underlay's.
    pub mtu: Option<u32>,
    /// Group policy extension.
    pub gbp: bool,
    /// Stations are learnt from traffic too.
    pub learning: bool,
}

/// Configuration of WireGuard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireguardConf {
    /// UDP port.
    pub port: u16,
    /// UDP port of the device for IPv6 where there are two.
    pub port_v6: u16,
    /// Largest packet with its wrapping, bytes, instead of the underlay's.
    pub mtu: Option<u32>,
    /// A key that all nodes have besides their own.
    pub preshared: Option<Key>,
    /// Something is sent at least so often, seconds; 0 for never.
    pub keepalive: u16,
    /// Over what the packets travel.
    pub mode: WireguardMode,
}

/// Over what WireGuard's packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireguardMode {
    /// A device for each family, over the same family.
    Separate,
    /// One device, over whichever family seems to get through.
    Auto,
    /// One device, over IPv4.
    Ipv4,
    /// One device, over IPv6.
    Ipv6,
}

/// The administrator's commands, run by `sh`; empty ones are not run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtensionConf {
    /// Before the lease is taken. What it says is told to the other nodes' commands.
    pub pre_startup: String,
    /// After the lease was taken.
    pub post_startup: String,
    /// When the daemon is told to end.
    pub shutdown: String,
    /// For each other node's subnet.
    pub subnet_add: String,
    /// For each other node's subnet that is no more.
    pub subnet_remove: String,
}

impl Default for VxlanConf {
    fn default() -> Self {
        Self {
            vni: 1,
            port: 8472,
            direct_routing: false,
            mtu: None,
            gbp: false,
            learning: false,
        }
    }
}

impl Default for WireguardConf {
    fn default() -> Self {
        Self {
            port: 51820,
            port_v6: 51821,
            mtu: None,
            preshared: None,
            keepalive: 0,
            mode: WireguardMode::Separate,
        }
    }
}

impl Backend {
    pub(super) fn parse(wire: Option<WireBackend>) -> Result<Self, NetConfError> {
        let Some(wire) = wire else {
            return Ok(Self::Other("udp".into()));
        };
        Ok(match wire.kind.as_str() {
            "vxlan" => Self::Vxlan(vxlan(&wire)?),
            "host-gw" => Self::HostGw,
            "ipip" => Self::Ipip {
                direct_routing: wire.direct_routing,
            },
            "wireguard" => Self::Wireguard(wireguard(&wire)?),
            "alloc" => Self::Alloc,
            "extension" => Self::Extension(ExtensionConf {
                pre_startup: wire.pre_startup,
                post_startup: wire.post_startup,
                shutdown: wire.shutdown,
                subnet_add: wire.subnet_add,
                subnet_remove: wire.subnet_remove,
            }),
            other => Self::Other(other.to_owned()),
        })
    }
}

fn vxlan(wire: &WireBackend) -> Result<VxlanConf, NetConfError> {
    let default = VxlanConf::default();
    let vni = wire.vni.unwrap_or(default.vni);
    if vni >= 1 << 24 {
        return Err(field("Backend.VNI", format!("{vni} is more than 24 bits")));
    }
    Ok(VxlanConf {
        vni,
        port: wire.port.filter(|p| *p != 0).unwrap_or(default.port),
        direct_routing: wire.direct_routing,
        mtu: wire.mtu.filter(|m| *m != 0),
        gbp: wire.gbp,
        learning: wire.learning,
    })
}

fn wireguard(wire: &WireBackend) -> Result<WireguardConf, NetConfError> {
    let default = WireguardConf::default();
    let no_key = || field("Backend.PSK", "is no key of 32 bytes in base64");
    let preshared = match wire.psk.as_str() {
        "" => None,
        text => Some(key(text).ok_or_else(no_key)?),
    };
    let mode = match wire.mode.as_deref() {
        None | Some("separate") => WireguardMode::Separate,
        Some("auto") => WireguardMode::Auto,
        Some("ipv4") => WireguardMode::Ipv4,
        Some("ipv6") => WireguardMode::Ipv6,
        Some(other) => {
            let problem = format!("{other:?} is none of separate, auto, ipv4, ipv6");
            return Err(field("Backend.Mode", problem));
        }
    };
    Ok(WireguardConf {
        port: wire.listen_port.unwrap_or(default.port),
        port_v6: wire.listen_port_v6.unwrap_or(default.port_v6),
        mtu: wire.mtu.filter(|m| *m != 0),
        preshared,
        keepalive: wire.keepalive,
        mode,
    })
}
