//! Leases, and how they are written.

mod backend;
mod value;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

pub use backend::BackendData;
pub(crate) use backend::{key, key_text};

/// A node's subnets and the way to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The node's part of the pod network.
    pub subnet: Ipv4Net,
    /// Likewise of its IPv6 network.
    pub ipv6_subnet: Option<Ipv6Net>,
    /// The way to them.
    pub attributes: LeaseAttributes,
}

/// What a node tells the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseAttributes {
    /// Where it can be reached.
    pub public_ip: Ipv4Addr,
    /// Likewise over IPv6.
    pub public_ipv6: Option<Ipv6Addr>,
    /// As what it takes packets.
    pub backend: BackendData,
    /// Likewise over IPv6; of the same backend.
    pub backend_v6: Option<BackendData>,
}

/// All leases that a store knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    /// This node's own, as recorded.
    pub own: Option<Lease>,
    /// The others', by subnet.
    pub peers: BTreeMap<Ipv4Net, Lease>,
}

impl Lease {
    /// A lease of an IPv4 subnet alone.
    pub fn ipv4(subnet: Ipv4Net, attributes: LeaseAttributes) -> Self {
        Self {
            subnet,
            ipv6_subnet: None,
            attributes,
        }
    }
}

impl LeaseAttributes {
    /// Attributes of a node that is reached over IPv4 alone.
    pub fn ipv4(public_ip: Ipv4Addr, backend: BackendData) -> Self {
        Self {
            public_ip,
            public_ipv6: None,
            backend,
            backend_v6: None,
        }
    }
}
