use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ipnet::{Ipv4Net, Ipv6Net};
use knode_overlay::{BackendData, Lease, LeaseAttributes, LeaseStore, Leases, Previous, StoreError};
use tokio::sync::watch;

/// Nodes, their subnets and their leases: what an API server would hold.
#[derive(Clone, Default)]
pub struct Cluster {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Node>,
    watchers: Vec<(String, watch::Sender<Option<Arc<Leases>>>)>,
}

#[derive(Default)]
struct Node {
    subnet: Option<Ipv4Net>,
    ipv6_subnet: Option<Ipv6Net>,
    attributes: Option<LeaseAttributes>,
    ready: u32,
    acquired: u32,
}

impl Cluster {
    /// A cluster whose node `n` gets the subnets 172.30.n.0/24 and fd00:0:0:n::/64.
    pub fn with_nodes(nodes: impl IntoIterator<Item = u8>) -> Self {
        let cluster = Self::default();
        for n in nodes {
            cluster.set_subnet(n, Some(&format!("172.30.{n}.0/24")));
        }
        cluster
    }

    pub fn set_subnet(&self, n: u8, subnet: Option<&str>) {
        self.change(n, |node| {
            node.subnet = subnet.map(|s| s.parse().unwrap());
            node.ipv6_subnet = Some(format!("fd00:0:0:{n}::/64").parse().unwrap());
        });
    }

    /// Somebody wipes the record of a lease.
    pub fn wipe(&self, n: u8) {
        self.change(n, |node| node.attributes = None);
    }

    pub fn remove(&self, n: u8) {
        let mut state = self.state.lock().unwrap();
        state.nodes.remove(&name(n));
        state.tell();
    }

    pub fn attributes(&self, n: u8) -> Option<LeaseAttributes> {
        self.state.lock().unwrap().nodes.get(&name(n))?.attributes.clone()
    }

    /// How often the node said that its network works.
    pub fn announced(&self, n: u8) -> u32 {
        self.state
            .lock()
            .unwrap()
            .nodes
            .get(&name(n))
            .map_or(0, |node| node.ready)
    }

    /// The store as node `n` sees it.
    pub fn store(&self, n: u8) -> Arc<dyn LeaseStore> {
        let sender = watch::Sender::new(None);
        let receiver = sender.subscribe();
        let mut state = self.state.lock().unwrap();
        state.watchers.push((name(n), sender));
        state.tell();
        Arc::new(FakeLeases {
            cluster: self.clone(),
            n,
            leases: receiver,
        })
    }

    fn change(&self, n: u8, change: impl FnOnce(&mut Node)) {
        let mut state = self.state.lock().unwrap();
        change(state.nodes.entry(name(n)).or_default());
        state.tell();
    }
}

impl State {
    fn tell(&mut self) {
        self.watchers.retain(|(_, sender)| sender.receiver_count() > 0);
        for (node, sender) in &self.watchers {
            let mut leases = Leases::default();
            for (name, state) in &self.nodes {
                let Some(lease) = state.lease() else { continue };
                if name == node {
                    leases.own = Some(lease);
                } else {
                    leases.peers.insert(lease.subnet, lease);
                }
            }
            sender.send_replace(Some(Arc::new(leases)));
        }
    }
}

impl Node {
    fn lease(&self) -> Option<Lease> {
        Some(Lease {
            subnet: self.subnet?,
            ipv6_subnet: self.ipv6_subnet,
            attributes: self.attributes.clone()?,
        })
    }
}

/// The cluster as one node sees it.
pub struct FakeLeases {
    cluster: Cluster,
    n: u8,
    leases: watch::Receiver<Option<Arc<Leases>>>,
}

#[async_trait]
impl LeaseStore for FakeLeases {
    async fn previous(&self, _: std::net::Ipv4Addr) -> Result<Previous, StoreError> {
        let mac = |data: BackendData| match data {
            BackendData::Vxlan { mac, .. } => Some(mac),
            _ => None,
        };
        let known = self.cluster.attributes(self.n);
        Ok(Previous {
            mac: known.clone().and_then(|a| mac(a.backend)),
            mac_v6: known.and_then(|a| mac(a.backend_v6?)),
            ..Previous::default()
        })
    }

    async fn acquire(&self, attributes: &LeaseAttributes) -> Result<Lease, StoreError> {
        let mut leases = self.leases.clone();
        loop {
            let subnet = self
                .cluster
                .state
                .lock()
                .unwrap()
                .nodes
                .get(&name(self.n))
                .and_then(|node| Some((node.subnet?, node.ipv6_subnet)));
            if let Some((subnet, ipv6_subnet)) = subnet {
                let lease = Lease {
                    subnet,
                    ipv6_subnet,
                    attributes: attributes.clone(),
                };
                self.cluster.change(self.n, |node| {
                    node.attributes = Some(attributes.clone());
                    node.acquired += 1;
                });
                return Ok(lease);
            }
            leases.changed().await.map_err(|_| StoreError::Ended)?;
        }
    }

    fn leases(&self) -> watch::Receiver<Option<Arc<Leases>>> {
        self.leases.clone()
    }

    async fn announce_ready(&self) -> Result<(), StoreError> {
        self.cluster.change(self.n, |node| node.ready += 1);
        Ok(())
    }
}

fn name(n: u8) -> String {
    format!("node-{n}")
}
