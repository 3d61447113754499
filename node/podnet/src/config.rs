use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

/// The node's part of the pod network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Addresses of this node's pods; the first one is the bridge's.
    pub ipv4: Ipv4Net,
    /// Largest packet that crosses the pod network whole, bytes.
    pub mtu: u32,
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
    /// Address of the host that is served; all where none is given.
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
