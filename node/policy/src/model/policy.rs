use std::hash::{Hash, Hasher};
use std::sync::Arc;

use knode_api::selector::LabelSelector;

use super::selector::matches;
use super::{Blocks, Direction, Labels, Protocol, Selector, identity};

/// A policy: for pods of its namespace, whom else they may talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Which pods it selects; none where the selector cannot be read.
    pub pods: LabelSelector,
    /// Who may connect to them; `None` if the policy is not about that.
    pub ingress: Option<Arc<[Rule]>>,
    /// Whom they may connect to; `None` if the policy is not about that.
    pub egress: Option<Arc<[Rule]>>,
}

impl Policy {
    /// Its rules of a direction; `None` if it is not about that.
    pub fn rules(&self, direction: Direction) -> Option<&Arc<[Rule]>> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }

    /// Whether it selects a pod of its namespace with these labels.
    pub fn selects(&self, labels: &Labels) -> bool {
        matches(&self.pods, labels)
    }
}

/// A rule: what it names is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The other side.
    pub peers: Peers,
    /// The port that is connected to.
    pub ports: Ports,
}

/// The other side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// Anyone.
    All,
    /// Any of these; nobody if there are none.
    Some {
        /// Pods.
        pods: Box<[Arc<Selector>]>,
        /// Addresses.
        blocks: Option<Arc<Blocks>>,
    },
}

/// The ports of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// Any, also packets of protocols without ports.
    All,
    /// Any of these.
    Some(Arc<PortList>),
}

/// What a port of a rule matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortMatch {
    /// All ports of a protocol.
    Protocol(Protocol),
    /// Ports by number, both ends inside.
    Range {
        /// Of this protocol.
        protocol: Protocol,
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// The port that the pod which is connected to calls so.
    Named {
        /// Of this protocol.
        protocol: Protocol,
        /// The name.
        name: Box<str>,
    },
}

/// A list of ports, each once, in order; empty where nothing in it can be understood, and nothing matches then.
#[derive(Debug)]
pub struct PortList {
    items: Box<[PortMatch]>,
    name: Box<str>,
}

impl PortList {
    /// A list of these.
    pub fn new(items: impl IntoIterator<Item = PortMatch>) -> Self {
        let mut items: Vec<PortMatch> = items.into_iter().collect();
        items.sort_unstable();
        items.dedup();
        let name = identity("ports", items.iter().map(|item| format!("{item:?}")));
        Self {
            items: items.into(),
            name,
        }
    }

    /// What is in it.
    pub fn items(&self) -> &[PortMatch] {
        &self.items
    }

    /// What it is called in the kernel, without the direction.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl PartialEq for PortList {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for PortList {}

impl Hash for PortList {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
