use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

/// `namespace/name`.
pub type Name = Arc<str>;

/// A transport protocol, as a label of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The protocol of this name in an object; an absent one means TCP.
    pub fn from_name(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// As a label, lower case, without its underscore.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of a Service or a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name, empty if it has none.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number; a slice may leave it out.
    pub number: Option<NonZeroU16>,
}

/// What a Service's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// The Service's own addresses.
    Cluster(Box<[IpAddr]>),
    /// The endpoints' (`clusterIP: None`).
    Headless,
    /// Another name (`type: ExternalName`).
    External(Box<str>),
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What its name stands for.
    pub addresses: Addresses,
    /// Its ports.
    pub ports: Box<[Port]>,
}

impl Service {
    /// A Service.
    pub fn new(addresses: Addresses, ports: impl IntoIterator<Item = Port>) -> Self {
        Self {
            addresses,
            ports: ports.into_iter().collect(),
        }
    }

    /// Its own addresses.
    pub fn ips(&self) -> &[IpAddr] {
        match &self.addresses {
            Addresses::Cluster(ips) => ips,
            Addresses::Headless | Addresses::External(_) => &[],
        }
    }
}

/// An EndpointSlice: every endpoint at every port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Its ports.
    pub ports: Box<[Port]>,
    /// Its ready endpoints. Those of Services that publish not-ready addresses count as ready in their slices.
    pub endpoints: Box<[Endpoint]>,
}

impl Slice {
    /// A slice.
    pub fn new(ports: impl IntoIterator<Item = Port>, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self {
            ports: ports.into_iter().collect(),
            endpoints: endpoints.into_iter().collect(),
        }
    }

    /// Whether an endpoint has this address.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.ip == ip)
    }
}

/// A ready endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub ip: IpAddr,
    /// The host name that the slice gives it (a pod's `hostname` within its `subdomain`).
    pub hostname: Option<Box<str>>,
}

impl Endpoint {
    /// An endpoint.
    pub fn new(ip: IpAddr, hostname: Option<&str>) -> Self {
        Self {
            ip,
            hostname: hostname.map(Into::into),
        }
    }

    /// The label that it has below its Service: its host name, or its address with dashes. An IPv6 address that ends
    /// with a colon gets a 0, as no label ends with a dash (CoreDNS: `endpointHostname`).
    pub fn label(&self) -> String {
        match &self.hostname {
            Some(name) => name.to_string(),
            None => dashed(self.ip),
        }
    }
}

impl Endpoint {
    /// Whether this is its label, given in lower case.
    pub fn is_called(&self, label: &str) -> bool {
        match &self.hostname {
            Some(name) => name.eq_ignore_ascii_case(label),
            // Most labels are no addresses: nothing is built for them.
            None => label.contains('-') && dashed(self.ip) == label,
        }
    }
}

/// An address as a label.
fn dashed(ip: IpAddr) -> String {
    let mut label = ip.to_string().replace(['.', ':'], "-");
    if label.ends_with('-') {
        label.push('0');
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_label_each() {
        let label = |ip: &str| Endpoint::new(ip.parse().expect("an address"), None).label();
        assert_eq!(label("10.1.2.3"), "10-1-2-3");
        assert_eq!(label("fd00::1:2"), "fd00--1-2");
        assert_eq!(label("fd00::"), "fd00--0");
        let named = Endpoint::new(IpAddr::from([10, 0, 0, 1]), Some("db-0"));
        assert_eq!(named.label(), "db-0");
    }
}
