//! What the engine asks for one container (capabilities `portMappings`, `bandwidth`, `ips`, `mac`).

use std::net::IpAddr;

use knode_netlink::MacAddr;
use serde::Deserialize;

use super::error::CniError;
use crate::bandwidth::{Bandwidth, RateLimit};
use crate::config::{PortMapping, Protocol};

/// `runtimeConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RuntimeConfig {
    #[serde(default)]
    port_mappings: Option<Vec<Mapping>>,
    #[serde(default)]
    bandwidth: Option<Rates>,
    #[serde(default)]
    ips: Option<Vec<String>>,
    #[serde(default)]
    mac: Option<String>,
}

/// Engines also write the names with a capital (containerd does), which Go reads as the same.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    #[serde(alias = "HostPort")]
    host_port: i64,
    #[serde(alias = "ContainerPort")]
    container_port: i64,
    #[serde(alias = "Protocol", default)]
    protocol: String,
    #[serde(rename = "hostIP", alias = "HostIP", default)]
    host_ip: String,
}

/// Bits per second, and bits; 0 for no limit.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rates {
    #[serde(alias = "IngressRate")]
    ingress_rate: u64,
    #[serde(alias = "IngressBurst")]
    ingress_burst: u64,
    #[serde(alias = "EgressRate")]
    egress_rate: u64,
    #[serde(alias = "EgressBurst")]
    egress_burst: u64,
}

impl RuntimeConfig {
    /// The ports of the host that lead to the container. Those without a port on the host are none.
    pub fn port_mappings(&self) -> Result<Vec<PortMapping>, CniError> {
        let mappings = self.port_mappings.iter().flatten();
        mappings.filter(|m| m.host_port != 0).map(Mapping::read).collect()
    }

    /// How fast the container may send and receive.
    pub fn bandwidth(&self) -> Result<Bandwidth, CniError> {
        let Some(rates) = &self.bandwidth else {
            return Ok(Bandwidth::default());
        };
        Ok(Bandwidth {
            ingress: limit("ingress", rates.ingress_rate, rates.ingress_burst)?,
            egress: limit("egress", rates.egress_rate, rates.egress_burst)?,
        })
    }

    /// Addresses that the container must have; the length of a prefix is the subnet's, whatever is said.
    pub fn ips(&self) -> Result<Vec<IpAddr>, CniError> {
        let read = |text: &String| {
            let ip = text.split_once('/').map_or(text.as_str(), |(ip, _)| ip);
            ip.parse()
                .map_err(|_| wrong(format!("ips: {text:?} is no address")))
        };
        self.ips.iter().flatten().map(read).collect()
    }

    /// The Ethernet address that the container must have.
    pub fn mac(&self) -> Result<Option<MacAddr>, CniError> {
        let given = self.mac.as_deref().filter(|text| !text.is_empty());
        let read = |text: &str| {
            text.to_ascii_lowercase()
                .parse()
                .map_err(|e| wrong(format!("mac: {e}")))
        };
        given.map(read).transpose()
    }
}

impl Mapping {
    fn read(&self) -> Result<PortMapping, CniError> {
        let wrong = |what: String| wrong(format!("portMappings: {what}"));
        let port = |n: i64| match u16::try_from(n) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(wrong(format!("{n} is no port"))),
        };
        let protocol = match self.protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => return Err(wrong(format!("{other:?} is no transport"))),
        };
        let host_ip = match self.host_ip.as_str() {
            "" => None,
            text => {
                let ip: Result<IpAddr, _> = text.parse();
                Some(ip.map_err(|_| wrong(format!("{text:?} is no address")))?)
            }
        };
        Ok(PortMapping {
            protocol,
            host_port: port(self.host_port)?,
            container_port: port(self.container_port)?,
            host_ip,
        })
    }
}

/// A limit as upstream's bandwidth plugin takes it: rate and burst together, or neither.
fn limit(direction: &str, rate: u64, burst: u64) -> Result<Option<RateLimit>, CniError> {
    match (rate, burst) {
        (0, 0) => Ok(None),
        (0, _) => Err(wrong(format!("bandwidth: {direction} has a burst and no rate"))),
        (_, 0) => Err(wrong(format!("bandwidth: {direction} has a rate and no burst"))),
        (bits_per_second, burst) => Ok(Some(RateLimit {
            bits_per_second,
            burst_bits: Some(burst),
        })),
    }
}

fn wrong(what: String) -> CniError {
    CniError::new(CniError::CONFIG, what)
}
