//! Nodes and what the pods on them take. Pure.

use std::collections::{BTreeMap, HashMap};

use knode_client::ObjectKey;

use crate::filter::Storage;
use crate::model::{HostPort, Node, Pod, Resources};

/// What one pod takes of its node.
#[derive(Debug, Clone)]
struct Share {
    node: String,
    uid: String,
    requests: Resources,
    scored: Resources,
    ports: Vec<HostPort>,
}

/// A node with what is taken of it.
#[derive(Debug, Clone, Default)]
pub struct Occupied {
    /// The node.
    pub node: Node,
    /// Sum of the requests of its pods.
    pub requested: Resources,
    /// Sum of what they count as in scores.
    pub scored: Resources,
    /// How many pods it has.
    pub pods: i64,
    /// Ports taken.
    pub ports: Vec<HostPort>,
}

/// Every node, and every pod that has one.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    nodes: BTreeMap<String, Occupied>,
    shares: HashMap<ObjectKey, Share>,
    /// Claims and volumes.
    pub(crate) storage: Storage,
}

impl Cluster {
    /// Every node, by name.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Occupied> {
        self.nodes.values()
    }

    /// Takes a node's new state. True when it may take pods that it did not take before.
    pub fn set_node(&mut self, node: Node) -> bool {
        match self.nodes.get_mut(&node.name) {
            Some(known) if known.node == node => false,
            Some(known) => {
                known.node = node;
                true
            }
            None => {
                let name = node.name.clone();
                let mut occupied = Occupied {
                    node,
                    ..Occupied::default()
                };
                for share in self.shares.values().filter(|share| share.node == name) {
                    occupied.take(share);
                }
                self.nodes.insert(name, occupied);
                true
            }
        }
    }

    /// Forgets a node.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// The names of all nodes.
    pub fn node_names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// Takes into account that a pod has a node: bound, or about to be.
    pub fn assign(&mut self, pod: &Pod, node: &str) {
        let share = Share {
            node: node.to_owned(),
            uid: pod.uid.clone(),
            requests: pod.requests.clone(),
            scored: pod.scored.clone(),
            ports: pod.ports.clone(),
        };
        self.release(&pod.key);
        if let Some(occupied) = self.nodes.get_mut(node) {
            occupied.take(&share);
        }
        self.shares.insert(pod.key.clone(), share);
    }

    /// Gives back what a pod took. True when it took anything.
    pub fn release(&mut self, key: &ObjectKey) -> bool {
        let Some(share) = self.shares.remove(key) else {
            return false;
        };
        if let Some(occupied) = self.nodes.get_mut(&share.node) {
            occupied.give_back(&share);
        }
        true
    }

    /// The uid of the pod that has a node under this key.
    pub fn assigned_uid(&self, key: &ObjectKey) -> Option<&str> {
        self.shares.get(key).map(|share| share.uid.as_str())
    }

    /// Keys of all pods that have a node.
    pub fn assigned(&self) -> Vec<ObjectKey> {
        self.shares.keys().cloned().collect()
    }
}

impl Occupied {
    fn take(&mut self, share: &Share) {
        self.requested.add(&share.requests);
        self.scored.add(&share.scored);
        self.pods += 1;
        self.ports.extend(share.ports.iter().cloned());
    }

    fn give_back(&mut self, share: &Share) {
        self.requested.subtract(&share.requests);
        self.scored.subtract(&share.scored);
        self.pods -= 1;
        for port in &share.ports {
            if let Some(at) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(at);
            }
        }
    }
}
