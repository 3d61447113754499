use std::net::IpAddr;

use ipnet::IpNet;
use knode_nft::{CmpOp, Expr, TableRef, matching};

use crate::model::IpFamily;

/// How packets of pods on this node are told from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Locality {
    /// They are not: only masquerading everything helps.
    #[default]
    Unknown,
    /// By their source address: the pod networks.
    Cidrs(Vec<IpNet>),
    /// By the bridge that they come in by.
    Bridge(String),
    /// By how the name of the interface begins that they come in by.
    InterfacePrefix(String),
}

/// What about the tables is not in the Services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// The name of the tables, one of each family.
    pub name: String,
    /// Packets from elsewhere to a cluster address are masqueraded.
    pub locality: Locality,
    /// The service networks: packets to a port there that no Service has are refused.
    pub service_cidrs: Vec<IpNet>,
    /// Node ports are served on the node's addresses in these networks; where a family has none, on all.
    /// Never on loopback.
    pub node_port_addresses: Vec<IpNet>,
    /// The bit of the packet mark that asks for masquerading.
    pub masquerade_bit: u8,
    /// Masquerade everything that goes to a cluster address.
    pub masquerade_all: bool,
}

impl TableConfig {
    /// The table of a family as netlink names it.
    pub fn table(&self, family: IpFamily) -> TableRef {
        TableRef::new(family.into(), self.name.clone())
    }

    pub(super) fn mark(&self) -> u32 {
        1u32.checked_shl(u32::from(self.masquerade_bit)).unwrap_or(0)
    }

    /// A packet comes from a pod: one alternative an element, none if that cannot be known.
    pub(super) fn pods_match(&self, family: IpFamily) -> Vec<Vec<Expr>> {
        match &self.locality {
            Locality::Unknown => Vec::new(),
            Locality::Cidrs(cidrs) => of_family(cidrs, family)
                .map(|net| matching::saddr(CmpOp::Eq, net.network(), net.prefix_len()))
                .collect(),
            Locality::Bridge(name) => vec![matching::iifname(CmpOp::Eq, name)],
            Locality::InterfacePrefix(prefix) => vec![matching::iifname_begins(CmpOp::Eq, prefix)],
        }
    }

    /// A packet does not come from a pod; `None` if that cannot be known.
    pub(super) fn elsewhere_match(&self, family: IpFamily) -> Option<Vec<Expr>> {
        match &self.locality {
            Locality::Unknown => None,
            Locality::Cidrs(cidrs) => not_from(cidrs, family),
            Locality::Bridge(name) => Some(matching::iifname(CmpOp::Neq, name)),
            Locality::InterfacePrefix(prefix) => Some(matching::iifname_begins(CmpOp::Neq, prefix)),
        }
    }
}

impl Default for TableConfig {
    /// Tables `knode-proxy`, mark bit 14, node ports on all addresses, networks unknown.
    fn default() -> Self {
        Self {
            name: "knode-proxy".to_owned(),
            locality: Locality::Unknown,
            service_cidrs: Vec::new(),
            node_port_addresses: Vec::new(),
            masquerade_bit: 14,
            masquerade_all: false,
        }
    }
}

/// The networks of one family.
pub(crate) fn of_family(nets: &[IpNet], family: IpFamily) -> impl Iterator<Item = &IpNet> {
    nets.iter().filter(move |net| family.has(net.addr()))
}

/// The source is in none of the networks of this family; `None` if there are none.
pub(super) fn not_from(nets: &[IpNet], family: IpFamily) -> Option<Vec<Expr>> {
    let exprs: Vec<Expr> = of_family(nets, family)
        .flat_map(|net| matching::saddr(CmpOp::Neq, net.network(), net.prefix_len()))
        .collect();
    (!exprs.is_empty()).then_some(exprs)
}

/// The bytes of an address.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
