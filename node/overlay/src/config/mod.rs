//! The network's configuration (`net-conf.json`, or the key `config` in etcd; `pkg/subnet/config.go`).

use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;

/// Configuration of the pod network, the same on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetConf {
    /// The pod network.
    pub network: Ipv4Net,
    /// The pod network for IPv6.
    pub ipv6_network: Option<Ipv6Net>,
    /// Length of the nodes' subnets' prefixes.
    pub subnet_len: u8,
    /// First subnet to lease.
    pub subnet_min: Option<Ipv4Addr>,
    /// Last subnet to lease.
    pub subnet_max: Option<Ipv4Addr>,
    /// How packets travel between nodes.
    pub backend: Backend,
}

/// How packets travel between nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// In UDP, made by the kernel.
    Vxlan(VxlanConf),
    /// Plain, routed by the nodes; they must share a link.
    HostGw,
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
    /// Fixed MTU of the device, bytes.
    pub mtu: Option<u32>,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum NetConfError {
    /// Not JSON of that form.
    #[error("read the network's configuration")]
    Parse(#[source] serde_json::Error),
    /// A field is missing or makes no sense.
    #[error("the network's configuration: {field} {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl Default for VxlanConf {
    fn default() -> Self {
        Self {
            vni: 1,
            port: 8472,
            direct_routing: false,
            mtu: None,
        }
    }
}

impl NetConf {
    /// VXLAN with upstream's defaults.
    pub fn vxlan(network: Ipv4Net) -> Self {
        Self {
            network,
            ipv6_network: None,
            subnet_len: default_subnet_len(network),
            subnet_min: None,
            subnet_max: None,
            backend: Backend::Vxlan(VxlanConf::default()),
        }
    }

    /// Parses upstream's JSON. Without `Backend` it is `udp`, as upstream.
    ///
    /// # Errors
    /// [`NetConfError`].
    pub fn parse(text: &str) -> Result<Self, NetConfError> {
        let wire: Wire = serde_json::from_str(text).map_err(NetConfError::Parse)?;
        let network = wire
            .network
            .ok_or_else(|| field("Network", "is missing (IPv6 alone is not supported)"))?;
        let subnet_len = wire.subnet_len.unwrap_or_else(|| default_subnet_len(network));
        if subnet_len > 30 || subnet_len <= network.prefix_len() {
            return Err(field(
                "SubnetLen",
                format!("{subnet_len} does not divide {network}"),
            ));
        }
        for (name, bound) in [("SubnetMin", wire.subnet_min), ("SubnetMax", wire.subnet_max)] {
            if bound.is_some_and(|ip| !network.contains(&ip)) {
                return Err(field(name, format!("lies outside {network}")));
            }
        }
        Ok(Self {
            network: network.trunc(),
            ipv6_network: wire.ipv6_network.filter(|_| wire.enable_ipv6),
            subnet_len,
            subnet_min: wire.subnet_min,
            subnet_max: wire.subnet_max,
            backend: backend(wire.backend)?,
        })
    }
}

fn backend(wire: Option<WireBackend>) -> Result<Backend, NetConfError> {
    let Some(wire) = wire else {
        return Ok(Backend::Other("udp".into()));
    };
    match wire.kind.as_str() {
        "vxlan" => {
            let default = VxlanConf::default();
            let vni = wire.vni.unwrap_or(default.vni);
            if vni >= 1 << 24 {
                return Err(field("Backend.VNI", format!("{vni} is more than 24 bits")));
            }
            Ok(Backend::Vxlan(VxlanConf {
                vni,
                port: wire.port.filter(|p| *p != 0).unwrap_or(default.port),
                direct_routing: wire.direct_routing,
                mtu: wire.mtu.filter(|m| *m != 0),
            }))
        }
        "host-gw" => Ok(Backend::HostGw),
        other => Ok(Backend::Other(other.to_owned())),
    }
}

/// A /24 for each node, or a quarter of a small network.
fn default_subnet_len(network: Ipv4Net) -> u8 {
    if network.prefix_len() < 24 {
        24
    } else {
        (network.prefix_len() + 2).min(30)
    }
}

fn field(field: &'static str, problem: impl Into<String>) -> NetConfError {
    NetConfError::Field {
        field,
        problem: problem.into(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    network: Option<Ipv4Net>,
    #[serde(rename = "IPv6Network")]
    ipv6_network: Option<Ipv6Net>,
    #[serde(rename = "EnableIPv6", default)]
    enable_ipv6: bool,
    subnet_len: Option<u8>,
    subnet_min: Option<Ipv4Addr>,
    subnet_max: Option<Ipv4Addr>,
    backend: Option<WireBackend>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireBackend {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "VNI")]
    vni: Option<u32>,
    port: Option<u16>,
    #[serde(default)]
    direct_routing: bool,
    #[serde(rename = "MTU")]
    mtu: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_configuration() {
        let conf =
            NetConf::parse(r#"{"Network":"172.30.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#);
        assert_eq!(conf.unwrap(), NetConf::vxlan("172.30.0.0/16".parse().unwrap()));
    }

    #[test]
    fn without_a_backend_it_is_udp() {
        let conf = NetConf::parse(r#"{"Network":"172.30.0.0/16","SubnetLen":24}"#).unwrap();
        assert_eq!(conf.backend, Backend::Other("udp".into()));
    }

    #[test]
    fn nonsense_names_the_field() {
        let problem = |text: &str| NetConf::parse(text).unwrap_err().to_string();
        assert!(problem(r#"{"Backend":{"Type":"vxlan"}}"#).contains("Network"));
        assert!(
            problem(r#"{"Network":"10.0.0.0/16","SubnetLen":16}"#).contains("SubnetLen 16 does not divide")
        );
        assert!(
            problem(r#"{"Network":"10.0.0.0/16","SubnetMin":"10.1.0.0"}"#).contains("SubnetMin lies outside")
        );
        let vni = r#"{"Network":"10.0.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}"#;
        assert!(problem(vni).contains("Backend.VNI"));
    }
}
