//! Nodes reduced to leases; pure.

use std::collections::BTreeMap;

use ipnet::{Ipv4Net, Ipv6Net};
use knode_client::Change;

use super::annotations::Annotations;
use super::node::NodeView;
use crate::lease::{Lease, LeaseAttributes, Leases};
use crate::store::Previous;

/// This node as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnNode {
    /// Its subnet, once it has one.
    pub subnet: Option<Ipv4Net>,
    /// Its IPv6 subnet, if it has one.
    pub ipv6_subnet: Option<Ipv6Net>,
    /// The lease that is recorded.
    pub attributes: Option<LeaseAttributes>,
    /// What an earlier process left.
    pub previous: Previous,
}

/// All nodes' leases.
#[derive(Debug)]
pub(super) struct View {
    node: String,
    names: Annotations,
    own: Option<OwnNode>,
    peers: BTreeMap<String, Lease>,
    complete: bool,
}

impl View {
    pub fn new(node: String, names: Annotations) -> Self {
        Self {
            node,
            names,
            own: None,
            peers: BTreeMap::new(),
            complete: false,
        }
    }

    pub fn own(&self) -> Option<&OwnNode> {
        self.own.as_ref()
    }

    /// Takes a change in; whether it changed anything here.
    pub fn apply(&mut self, change: Change<NodeView>) -> bool {
        match change {
            Change::Restarted(nodes) => {
                let before = (self.own.take(), std::mem::take(&mut self.peers));
                for node in nodes {
                    self.insert(node);
                }
                !std::mem::replace(&mut self.complete, true)
                    || before != (self.own.clone(), self.peers.clone())
            }
            Change::Applied(node) => self.insert(node),
            Change::Deleted(node) => self.remove(&name(&node)),
        }
    }

    /// The leases. Of several nodes with one subnet the last by name counts.
    pub fn leases(&self) -> Leases {
        let own = self.own.as_ref().and_then(|own| {
            Some(Lease {
                subnet: own.subnet?,
                ipv6_subnet: own.ipv6_subnet,
                attributes: own.attributes.clone()?,
            })
        });
        Leases {
            own,
            peers: self
                .peers
                .values()
                .map(|lease| (lease.subnet, lease.clone()))
                .collect(),
        }
    }

    fn insert(&mut self, node: NodeView) -> bool {
        let name = name(&node);
        let empty = BTreeMap::new();
        let text = node.metadata.annotations.as_ref().unwrap_or(&empty);
        let attributes = self.names.read(text);
        let (subnet, ipv6_subnet) = (first(&node), first(&node));
        if name == self.node {
            let (public_ip_overwrite, public_ipv6_overwrite) = self.names.overwrite(text);
            let previous = Previous {
                public_ip_overwrite,
                public_ipv6_overwrite,
                ..attributes.as_ref().map(Previous::of).unwrap_or_default()
            };
            let own = Some(OwnNode {
                subnet,
                ipv6_subnet,
                attributes,
                previous,
            });
            let changed = self.own != own;
            self.own = own;
            return changed;
        }
        match (subnet, attributes) {
            (Some(subnet), Some(attributes)) => {
                let lease = Lease {
                    subnet,
                    ipv6_subnet,
                    attributes,
                };
                self.peers.insert(name, lease.clone()) != Some(lease)
            }
            _ => self.peers.remove(&name).is_some(),
        }
    }

    fn remove(&mut self, name: &str) -> bool {
        if name == self.node {
            self.own.take().is_some()
        } else {
            self.peers.remove(name).is_some()
        }
    }
}

fn name(node: &NodeView) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

/// The node's first subnet of a family.
fn first<T: std::str::FromStr>(node: &NodeView) -> Option<T> {
    let all = node.spec.pod_cidrs.iter().chain(&node.spec.pod_cidr);
    all.filter_map(|text| text.parse().ok()).next()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, cidr: Option<&str>, ip: Option<&str>) -> NodeView {
        let mut annotations = serde_json::Map::new();
        if let Some(ip) = ip {
            for (key, value) in [
                ("kube-subnet-manager", "true"),
                ("backend-type", "host-gw"),
                ("public-ip", ip),
            ] {
                annotations.insert(format!("flannel.alpha.coreos.com/{key}"), value.into());
            }
        }
        let metadata = json!({ "name": name, "annotations": annotations });
        serde_json::from_value(
            json!({ "metadata": metadata, "spec": { "podCIDR": cidr }, "status": { "images": [] } }),
        )
        .unwrap()
    }

    fn peers(view: &View) -> Vec<String> {
        view.leases().peers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn peers_come_move_and_go() {
        let mut view = View::new("me".into(), Annotations::default());
        let two = node("b", Some("172.30.2.0/24"), Some("192.0.2.2"));
        assert!(view.apply(Change::Restarted(vec![node("me", None, None), two.clone()])));
        assert_eq!(peers(&view), ["172.30.2.0/24"]);
        assert!(!view.apply(Change::Applied(two.clone())), "nothing new");
        assert!(view.apply(Change::Applied(node(
            "b",
            Some("172.30.9.0/24"),
            Some("192.0.2.2")
        ))));
        assert_eq!(peers(&view), ["172.30.9.0/24"]);
        assert!(view.apply(Change::Deleted(two)));
        assert_eq!(peers(&view), [""; 0]);
    }

    #[test]
    fn nodes_without_lease_are_none() {
        let mut view = View::new("me".into(), Annotations::default());
        view.apply(Change::Restarted(vec![]));
        assert!(!view.apply(Change::Applied(node("b", Some("172.30.2.0/24"), None))));
        assert!(!view.apply(Change::Applied(node("c", None, Some("192.0.2.3")))));
        assert_eq!(peers(&view), [""; 0]);
    }

    #[test]
    fn the_first_list_counts_even_when_empty() {
        let mut view = View::new("me".into(), Annotations::default());
        assert!(view.apply(Change::Restarted(vec![])));
        assert!(!view.apply(Change::Restarted(vec![])));
    }

    #[test]
    fn the_own_node_is_kept_apart() {
        let mut view = View::new("me".into(), Annotations::default());
        view.apply(Change::Restarted(vec![node(
            "me",
            Some("172.30.1.0/24"),
            Some("192.0.2.1"),
        )]));
        let leases = view.leases();
        assert_eq!(leases.own.unwrap().subnet.to_string(), "172.30.1.0/24");
        assert!(leases.peers.is_empty());
        assert_eq!(view.own().unwrap().previous, Previous::default());
    }

    #[test]
    fn both_families_are_found_in_any_order() {
        let mut view = View::new("me".into(), Annotations::default());
        let mut two = node("b", None, Some("192.0.2.2"));
        two.spec.pod_cidrs = vec!["fd00:2::/64".into(), "172.30.2.0/24".into()];
        view.apply(Change::Restarted(vec![two]));
        let lease = view.leases().peers.into_values().next().unwrap();
        assert_eq!(lease.subnet.to_string(), "172.30.2.0/24");
        assert_eq!(lease.ipv6_subnet.unwrap().to_string(), "fd00:2::/64");
    }
}
