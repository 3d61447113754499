use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use knode_netlink::MacAddr;

use crate::bandwidth::Bandwidth;

/// The node's part of the pod network. At least one family is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// IPv4 addresses of this node's pods; the first one is the bridge's.
    pub ipv4: Option<Ipv4Net>,
    /// Their IPv6 addresses; the first one is the bridge's.
    pub ipv6: Option<Ipv6Net>,
    /// Largest packet that crosses the pod network whole, bytes.
    pub mtu: u32,
}

impl Subnet {
    /// The networks, IPv4 first. Every pod has an address of each.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> + use<> {
        let ipv4 = self.ipv4.map(IpNet::V4);
        ipv4.into_iter().chain(self.ipv6.map(IpNet::V6))
    }
}

/// How the pod network is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the bridge.
    pub bridge: String,
    /// Name of the interface inside pods.
    pub interface: String,
    /// Directory of the leases; made when missing. One process at a time uses it.
    pub data_dir: PathBuf,
}

impl Config {
    /// Upstream's names (`cni0`, `eth0`) with leases under `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            bridge: "cni0".into(),
            interface: "eth0".into(),
            data_dir: data_dir.into(),
        }
    }
}

/// A sandbox to connect.
#[derive(Debug, Clone)]
pub struct AddRequest {
    /// Its identity: any non-empty text without control characters.
    pub sandbox_id: String,
    /// Its network namespace.
    pub netns: PathBuf,
    /// Ports of the host that lead to it.
    pub port_mappings: Vec<PortMapping>,
    /// How fast it may send and receive.
    pub bandwidth: Bandwidth,
    /// Addresses that it must have, at most one of each family; free ones of the subnet otherwise.
    pub ips: Vec<IpAddr>,
    /// Ethernet address that its interface must have; one that follows from its address otherwise.
    pub mac: Option<MacAddr>,
}

impl AddRequest {
    /// A sandbox without ports and limits, with whatever address is free.
    pub fn new(sandbox_id: impl Into<String>, netns: impl Into<PathBuf>) -> Self {
        Self {
            sandbox_id: sandbox_id.into(),
            netns: netns.into(),
            port_mappings: Vec::new(),
            bandwidth: Bandwidth::default(),
            ips: Vec::new(),
            mac: None,
        }
    }
}

/// A port of the host that leads to a port of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortMapping {
    /// Transport.
    pub protocol: Protocol,
    /// Port on the host, not 0.
    pub host_port: u16,
    /// Port in the pod, not 0.
    pub container_port: u16,
    /// Address of the host that is served; all of both families where none is given, all of one family where it is
    /// that family's unspecified address.
    pub host_ip: Option<IpAddr>,
}

/// Transports with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}
