use std::fmt;
use std::net::IpAddr;

use crate::model::{IpFamily, Protocol};

/// Where packets to a Service are addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// An address of the Service.
    Address(IpAddr),
    /// Any address of this node.
    Node,
}

impl Place {
    /// The address that stands for it in the maps: node ports use one that no packet carries.
    pub fn address(self, family: IpFamily) -> IpAddr {
        match self {
            Self::Address(address) => address,
            Self::Node => family.unspecified(),
        }
    }

    /// The place that an address in a map stands for.
    pub fn from_address(address: IpAddr) -> Self {
        if address.is_unspecified() {
            Self::Node
        } else {
            Self::Address(address)
        }
    }
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

impl Frontend {
    /// It as a part of a chain's name, which takes no colons.
    pub fn identifier(&self) -> String {
        let place = match self.place {
            Place::Address(address) => address.to_string().replace(':', "_"),
            Place::Node => "node".to_owned(),
        };
        format!("{place}-{}-{}", self.protocol, self.port)
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Address(address) => write!(f, "{address} {} {}", self.protocol, self.port),
            Place::Node => write!(f, "node {} {}", self.protocol, self.port),
        }
    }
}
