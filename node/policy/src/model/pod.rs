use std::net::IpAddr;
use std::sync::Arc;

use super::{Labels, Protocol};

/// A pod on a network of its own that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Its addresses, of either family; none as long as it has none.
    pub ips: Box<[IpAddr]>,
    /// The ports of its containers that have a name.
    pub ports: Box<[ContainerPort]>,
    /// Whether it runs on this node, where policies that select it are enforced.
    pub local: bool,
    /// When it was created, in seconds: of two pods that name the same address the younger one has it.
    pub created: i64,
}

/// A named port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerPort {
    /// Its name.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}
