//! The network's configuration (`net-conf.json`, or the key `config` in etcd; `pkg/subnet/config.go`).

mod backend;
#[cfg(test)]
mod tests;
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use backend::{Backend, ExtensionConf, VxlanConf, WireguardConf, WireguardMode};
use wire::Wire;

/// Configuration of the pod network, the same on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetConf {
    /// The pod network.
    pub network: Ipv4Net,
    /// Length of the nodes' subnets' prefixes.
    pub subnet_len: u8,
    /// First subnet to lease.
    pub subnet_min: Option<Ipv4Addr>,
    /// Last subnet to lease.
    pub subnet_max: Option<Ipv4Addr>,
    /// The pod network for IPv6 beside it.
    pub ipv6: Option<Ipv6Conf>,
    /// How packets travel between nodes.
    pub backend: Backend,
}

/// Configuration of the IPv6 pod network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Conf {
    /// The pod network.
    pub network: Ipv6Net,
    /// Length of the nodes' subnets' prefixes.
    pub subnet_len: u8,
    /// First subnet to lease.
    pub subnet_min: Option<Ipv6Addr>,
    /// Last subnet to lease.
    pub subnet_max: Option<Ipv6Addr>,
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

impl NetConf {
    /// VXLAN with upstream's defaults.
    pub fn vxlan(network: Ipv4Net) -> Self {
        Self {
            network,
            subnet_len: default_length(network.into()),
            subnet_min: None,
            subnet_max: None,
            ipv6: None,
            backend: Backend::Vxlan(VxlanConf::default()),
        }
    }

    /// The same with an IPv6 pod network beside it, divided as upstream does by default.
    #[must_use]
    pub fn with_ipv6(self, network: Ipv6Net) -> Self {
        let ipv6 = Some(Ipv6Conf {
            network: network.trunc(),
            subnet_len: default_length(network.into()),
            subnet_min: None,
            subnet_max: None,
        });
        Self { ipv6, ..self }
    }

    /// Parses upstream's JSON, whose names may be written in any case. Without `Backend` it is `udp`, as upstream.
    /// Checks how the network is divided into subnets, which the nodes choose themselves (`CheckNetworkConfig`).
    ///
    /// # Errors
    /// [`NetConfError`].
    pub fn parse(text: &str) -> Result<Self, NetConfError> {
        let mut wire = Wire::parse(text)?;
        let mut conf = Self::undivided(&mut wire)?;
        conf.divide(&wire)?;
        Ok(conf)
    }

    /// Likewise where somebody else gives the nodes their subnets (the Kubernetes API): how the network is divided is
    /// not looked at, as upstream.
    ///
    /// # Errors
    /// [`NetConfError`].
    pub fn parse_assigned(text: &str) -> Result<Self, NetConfError> {
        Self::undivided(&mut Wire::parse(text)?)
    }

    fn undivided(wire: &mut Wire) -> Result<Self, NetConfError> {
        if !wire.enable_ipv4 {
            return Err(field("EnableIPv4", "is false: IPv6 alone is not supported"));
        }
        let network = wire.network.ok_or_else(|| field("Network", "is missing"))?;
        check_network("Network", network.into())?;
        let ipv6 = if wire.enable_ipv6 {
            let network = wire
                .ipv6_network
                .ok_or_else(|| field("IPv6Network", "is missing"))?;
            check_network("IPv6Network", network.into())?;
            Some(network)
        } else {
            None
        };
        let conf = Self {
            backend: Backend::parse(wire.backend.take())?,
            ..Self::vxlan(network.trunc())
        };
        Ok(match ipv6 {
            Some(network) => conf.with_ipv6(network),
            None => conf,
        })
    }

    /// Takes up what is said of subnets. Zero stands for no bound, as upstream.
    fn divide(&mut self, wire: &Wire) -> Result<(), NetConfError> {
        let network = self.network.into();
        self.subnet_len = length("SubnetLen", network, wire.subnet_len, 30)?;
        for (name, bound) in [("SubnetMin", wire.subnet_min), ("SubnetMax", wire.subnet_max)] {
            check_bound(name, network, self.subnet_len, bound.map(IpAddr::V4))?;
        }
        self.subnet_min = wire.subnet_min.filter(|ip| !ip.is_unspecified());
        self.subnet_max = wire.subnet_max.filter(|ip| !ip.is_unspecified());
        self.ipv6.iter_mut().try_for_each(|ipv6| ipv6.divide(wire))
    }
}

impl Ipv6Conf {
    fn divide(&mut self, wire: &Wire) -> Result<(), NetConfError> {
        let network = self.network.into();
        self.subnet_len = length("IPv6SubnetLen", network, wire.ipv6_subnet_len, 126)?;
        let bounds = [
            ("IPv6SubnetMin", wire.ipv6_subnet_min),
            ("IPv6SubnetMax", wire.ipv6_subnet_max),
        ];
        for (name, bound) in bounds {
            check_bound(name, network, self.subnet_len, bound.map(IpAddr::V6))?;
        }
        self.subnet_min = wire.ipv6_subnet_min.filter(|ip| !ip.is_unspecified());
        self.subnet_max = wire.ipv6_subnet_max.filter(|ip| !ip.is_unspecified());
        Ok(())
    }
}

/// Refuses what upstream takes for no network at all.
fn check_network(name: &'static str, network: IpNet) -> Result<(), NetConfError> {
    if network.prefix_len() == 0 && network.addr().is_unspecified() {
        return Err(field(name, format!("is empty ({network})")));
    }
    Ok(())
}

/// The length that is asked for, or upstream's default. At least four subnets must fit, since the first is not used.
fn length(name: &'static str, network: IpNet, asked: Option<u8>, most: u8) -> Result<u8, NetConfError> {
    let length = asked
        .filter(|l| *l != 0)
        .unwrap_or_else(|| default_length(network));
    if length > most || length < network.prefix_len() + 2 {
        let problem = format!("{length} does not divide {network} into at least four subnets of usable size");
        return Err(field(name, problem));
    }
    Ok(length)
}

/// A /24 (IPv6: /64) for each node, or a quarter of a small network.
fn default_length(network: IpNet) -> u8 {
    let usual = if network.addr().is_ipv4() { 24 } else { 64 };
    usual.max(network.prefix_len().saturating_add(2))
}

fn check_bound(
    name: &'static str,
    network: IpNet,
    length: u8,
    bound: Option<IpAddr>,
) -> Result<(), NetConfError> {
    let Some(bound) = bound.filter(|ip| !ip.is_unspecified()) else {
        return Ok(());
    };
    if !network.contains(&bound) {
        return Err(field(name, format!("lies outside {network}")));
    }
    let aligned = IpNet::new(bound, length).is_ok_and(|net| net.network() == bound);
    if !aligned {
        return Err(field(name, format!("{bound} is not where a subnet begins")));
    }
    Ok(())
}

fn field(field: &'static str, problem: impl Into<String>) -> NetConfError {
    NetConfError::Field {
        field,
        problem: problem.into(),
    }
}
