//! Where leases are kept.

mod etcd;
mod kubernetes;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use async_trait::async_trait;
use knode_netlink::MacAddr;
use tokio::sync::watch;

use crate::lease::{BackendData, Lease, LeaseAttributes, Leases};

pub use etcd::{EtcdConfig, EtcdLeases, Listed, Prefix, SubnetKey, list_leases, read_config};
pub use kubernetes::KubernetesLeases;

/// What an earlier process of this node left with the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Previous {
    /// Ethernet address of the tunnel device; the others know it still.
    pub mac: Option<MacAddr>,
    /// Likewise of that for IPv6.
    pub mac_v6: Option<MacAddr>,
    /// Address that an administrator wants told instead of the interface's.
    pub public_ip_overwrite: Option<Ipv4Addr>,
    /// Likewise for IPv6.
    pub public_ipv6_overwrite: Option<Ipv6Addr>,
}

impl Previous {
    /// What a lease says of the node that took it.
    pub(crate) fn of(attributes: &LeaseAttributes) -> Self {
        let mac = |data: &BackendData| match data {
            BackendData::Vxlan { mac, .. } => Some(*mac),
            _ => None,
        };
        Self {
            mac: mac(&attributes.backend),
            mac_v6: attributes.backend_v6.as_ref().and_then(mac),
            ..Self::default()
        }
    }
}

/// Why a lease store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The API server refused or could not be reached.
    #[error("{op} node {node}")]
    Api {
        /// What was asked.
        op: &'static str,
        /// On which node.
        node: String,
        /// Why it failed.
        #[source]
        source: Box<knode_client::ApiError>,
    },
    /// etcd refused or could not be reached.
    #[error("{op}")]
    Etcd {
        /// What was being done.
        op: &'static str,
        /// Why it failed.
        #[source]
        source: Box<crate::etcd::EtcdError>,
    },
    /// All subnets are leased.
    #[error("no free subnet is left in {network} ({leases} leases)")]
    Exhausted {
        /// The pod network.
        network: ipnet::IpNet,
        /// How many leases there are.
        leases: usize,
    },
    /// The node has no subnet of a family that the network has.
    #[error("node {node} has no IPv6 subnet in spec.podCIDRs")]
    NoIpv6 {
        /// The node.
        node: String,
    },
    /// Not built yet.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The store has been shut down.
    #[error("the lease store has ended")]
    Ended,
}

/// A store of leases, seen from one node. Failures pass; the caller tries again.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// What an earlier process left, on the node with this address. Waits until the store knows of this node.
    async fn previous(&self, public_ip: Ipv4Addr) -> Result<Previous, StoreError>;

    /// Takes or renews this node's lease. Waits until there is a subnet for it.
    async fn acquire(&self, attributes: &LeaseAttributes) -> Result<Lease, StoreError>;

    /// All leases, always as they are now; `None` before they are known.
    fn leases(&self) -> watch::Receiver<Option<Arc<Leases>>>;

    /// Tells the cluster that this node's pods can reach the others.
    async fn announce_ready(&self) -> Result<(), StoreError>;
}
