use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Blocks, Direction, IpFamily, IpRange, Key, PortList, Protocol, Selector, identity};

/// Chains are named after their policy as long as the kernel takes such names.
const LONGEST_NAME: usize = 200;

/// The policies that select a pod in one direction.
#[derive(Debug, Clone)]
pub struct Shape {
    direction: Direction,
    policies: Arc<[Key]>,
    name: Arc<str>,
}

impl Shape {
    /// The shape of these policies, in order.
    pub fn new(direction: Direction, policies: impl Into<Arc<[Key]>>) -> Self {
        let policies = policies.into();
        let parts = policies.iter().flat_map(|key| [&key.namespace, &key.name]);
        let name = identity(direction.word(), parts.map(|part| part.as_bytes())).into();
        Self {
            direction,
            policies,
            name,
        }
    }

    /// The direction.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The policies.
    pub fn policies(&self) -> &[Key] {
        &self.policies
    }

    /// The name of its chain.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Shape {}

impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// A chain of the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ChainKey {
    /// Asks the policies that select a pod one after the other, and drops what none allows.
    Shape(Shape),
    /// The rules of one policy.
    Policy(Direction, Key),
    /// The ports of rules.
    Ports(Direction, Arc<PortList>),
}

impl ChainKey {
    /// What it is called in the kernel.
    pub fn name(&self) -> String {
        match self {
            Self::Shape(shape) => shape.name().to_owned(),
            Self::Policy(direction, key) => {
                let name = format!("{}/{key}", direction.word());
                match name.len() {
                    ..=LONGEST_NAME => name,
                    _ => identity(&format!("{}-policy", direction.word()), [name]).into(),
                }
            }
            Self::Ports(direction, list) => format!("{}-{}", direction.word(), list.name()),
        }
    }
}

/// Whose named ports are in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Those of this node's pods: who is connected to runs here.
    Local,
    /// Those of all pods of the cluster.
    All,
}

/// The ports that pods call by one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamedPorts {
    /// Whose.
    pub scope: Scope,
    /// Of this protocol.
    pub protocol: Protocol,
    /// The name, at most 15 letters, digits and dashes.
    pub name: Box<str>,
}

/// A set of the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetKey {
    /// Addresses of the pods that a selector selects.
    Pods(Arc<Selector>),
    /// Ranges of addresses; they do not change.
    Blocks(Arc<Blocks>),
    /// Address, protocol and port.
    Ports(NamedPorts),
}

impl SetKey {
    /// What it is called in the kernel.
    pub fn name(&self) -> String {
        match self {
            Self::Pods(selector) => selector.name().to_owned(),
            Self::Blocks(blocks) => blocks.name().to_owned(),
            Self::Ports(ports) => {
                let scope = match ports.scope {
                    Scope::Local => "local",
                    Scope::All => "all",
                };
                format!("named-{scope}-{}-{}", ports.protocol.word(), ports.name)
            }
        }
    }
}

/// What is in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    /// A pod.
    Address(IpAddr),
    /// A pod's port.
    Port(IpAddr, u16),
    /// A range.
    Range(IpRange),
}

impl Member {
    /// The family of its addresses.
    pub fn family(&self) -> IpFamily {
        match self {
            Self::Address(address) | Self::Port(address, _) => IpFamily::of(*address),
            Self::Range(range) => IpFamily::of(range.first),
        }
    }
}
