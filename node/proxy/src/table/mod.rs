//! From the plan to nftables: one table of flat maps, and the batches that change it.
//!
//! `svc` leads from address, protocol and port to a chain that is shared by all frontends of the same
//! [`Shape`](crate::plan::Shape); that chain draws an index and finds the endpoint in `eps`. A Service costs one
//! element a frontend and one an endpoint, and changing it touches these elements alone.

mod actual;
mod decode;
mod elements;
mod incremental;
mod pick;
mod remember;
mod repair;
mod skeleton;

pub use actual::Actual;
pub use decode::{orders, sticky_clients};
pub use elements::{AFFINITY, ENDPOINTS, HAIRPIN, REMEMBER, SERVICES, elements};
pub use incremental::batch;
pub use repair::repair;
pub use skeleton::{Ruleset, ruleset};

use ipnet::Ipv4Net;
use knode_nft::{Family, TableRef};

/// What about the table is not in the Services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// The table; its family is IPv4.
    pub name: String,
    /// The pod network: packets from elsewhere to a cluster address are masqueraded.
    pub cluster_cidr: Option<Ipv4Net>,
    /// The service network: packets to a port there that no Service has are refused.
    pub service_cidr: Option<Ipv4Net>,
    /// Node ports are served on the node's addresses in these networks; empty means on all, loopback never.
    pub node_port_addresses: Vec<Ipv4Net>,
    /// The bit of the packet mark that asks for masquerading.
    pub masquerade_bit: u8,
}

impl TableConfig {
    /// The table as netlink names it.
    pub fn table(&self) -> TableRef {
        TableRef::new(Family::Ip, self.name.clone())
    }

    fn mark(&self) -> u32 {
        1u32.checked_shl(u32::from(self.masquerade_bit)).unwrap_or(0)
    }
}

impl Default for TableConfig {
    /// Table `knode-proxy`, mark bit 14, node ports on all addresses, networks unknown.
    fn default() -> Self {
        Self {
            name: "knode-proxy".to_owned(),
            cluster_cidr: None,
            service_cidr: None,
            node_port_addresses: Vec::new(),
            masquerade_bit: 14,
        }
    }
}
