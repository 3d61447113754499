use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use clap::Args;
use ipnet::IpNet;
use knode_dns::forward::Stub;

use crate::dual::{Dual, DualError};

/// Where pods ask for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterDns {
    /// Nowhere: they use the node's name servers.
    None,
    /// There.
    At(Dual<IpAddr>),
}

impl FromStr for ClusterDns {
    type Err = DualError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            text => text.parse().map(Self::At),
        }
    }
}

impl ClusterDns {
    /// What is meant where nothing was said: the second address of each range of services.
    pub fn settle(asked: Option<Self>, services: &Dual<IpNet>) -> Self {
        asked.unwrap_or_else(|| {
            let addresses = services.iter().filter_map(second);
            Dual::first_of_each(addresses).map_or(Self::None, Self::At)
        })
    }

    /// The addresses, the primary first.
    pub fn addresses(self) -> Vec<IpAddr> {
        match self {
            Self::None => Vec::new(),
            Self::At(addresses) => addresses.iter().collect(),
        }
    }
}

/// The first one is the API server's.
fn second(range: IpNet) -> Option<IpAddr> {
    let second: IpAddr = match range.network() {
        IpAddr::V4(network) => Ipv4Addr::from(u32::from(network).checked_add(2)?).into(),
        IpAddr::V6(network) => Ipv6Addr::from(u128::from(network).checked_add(2)?).into(),
    };
    range.contains(&second).then_some(second)
}

/// What a node's DNS is to be like.
#[derive(Clone, Debug, Default)]
pub struct DnsWish {
    /// Where pods ask for names; `None` for what the cluster says.
    pub cluster: Option<ClusterDns>,
    pub options: DnsOptions,
}

/// What a node's DNS can be told.
#[derive(Args, Clone, Debug, Default)]
pub struct DnsOptions {
    /// Who is asked about names outside of the cluster [default: the name servers of /etc/resolv.conf, which is
    /// followed].
    #[arg(long, value_name = "IP[:PORT],...", value_delimiter = ',', value_parser = server)]
    pub dns_forward: Vec<SocketAddr>,
    /// A domain that other servers know about, and these; may be given several times.
    #[arg(long, value_name = "DOMAIN=SERVER[,SERVER...]")]
    pub dns_stub: Vec<Stub>,
}

/// An address, with port 53 unless it names another.
fn server(text: &str) -> Result<SocketAddr, String> {
    let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    alone
        .or_else(|_| text.parse())
        .map_err(|_| format!("{text:?} is not an address, alone or with a port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_address_of_each_range_is_meant_unless_told_otherwise() {
        let settle = |asked: Option<&str>, services: &str| {
            let asked = asked.map(|text| text.parse().expect("an option"));
            let addresses = ClusterDns::settle(asked, &services.parse().expect("ranges")).addresses();
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(settle(None, "10.254.0.0/16"), ["10.254.0.2"]);
        assert_eq!(
            settle(None, "fd00:254::/112,10.254.0.0/16"),
            ["fd00:254::2", "10.254.0.2"]
        );
        assert_eq!(settle(None, "10.254.0.0/31"), [""; 0]);
        assert_eq!(settle(Some("10.254.0.9"), "10.254.0.0/16"), ["10.254.0.9"]);
        assert_eq!(settle(Some("none"), "10.254.0.0/16"), [""; 0]);
        assert!("here".parse::<ClusterDns>().is_err());
    }
}
