use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::model::Protocol;

/// Where packets to a Service are addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// An address of the Service.
    Address(IpAddr),
    /// Any address of this node.
    Node,
    /// Any address of this node, for clients outside the cluster of a Service that keeps traffic on the node.
    NodeFromOutside,
}

impl Place {
    /// The address that stands for it in the maps: node ports use addresses that no packet carries.
    pub fn address(self) -> IpAddr {
        match self {
            Self::Address(address) => address,
            Self::Node => Self::NODE.into(),
            Self::NodeFromOutside => Self::NODE_FROM_OUTSIDE.into(),
        }
    }

    /// The place that an address in a map stands for.
    pub fn from_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(Self::NODE) => Self::Node,
            IpAddr::V4(Self::NODE_FROM_OUTSIDE) => Self::NodeFromOutside,
            other => Self::Address(other),
        }
    }

    pub(crate) const NODE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    pub(crate) const NODE_FROM_OUTSIDE: Ipv4Addr = Ipv4Addr::new(0, 0, 0, 1);
}

/// One destination that packets to a Service may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// The address, or the node's addresses.
    pub place: Place,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Address(address) => write!(f, "{address} {} {}", self.protocol, self.port),
            Place::Node => write!(f, "node {} {}", self.protocol, self.port),
            Place::NodeFromOutside => write!(f, "node-from-outside {} {}", self.protocol, self.port),
        }
    }
}
