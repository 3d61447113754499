use std::net::SocketAddr;

use knode_client::Client;

use super::ConntrackLimits;
use crate::table::TableConfig;

/// What the proxy runs with.
#[derive(Clone)]
pub struct ProxyConfig {
    /// The API server, with the rights of `system:node-proxier`.
    pub client: Client,
    /// This node's name: endpoints that carry it are local.
    pub node_name: String,
    /// The table and the networks.
    pub table: TableConfig,
    /// Where `/healthz` and `/livez` are served (upstream: port 10256 on all addresses); `None` for nowhere.
    pub health: Option<SocketAddr>,
    /// Where `/metrics` and `/proxyMode` are served (upstream: 127.0.0.1:10249); `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// The rest; the default is upstream's.
    pub options: ProxyOptions,
}

/// What the rules are written to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyMode {
    /// Tables of our own in nftables, by netlink.
    #[default]
    Nftables,
    /// Upstream's chains, by `iptables-restore`.
    Iptables,
}

/// As upstream names it.
impl std::fmt::Display for ProxyMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        })
    }
}

/// What a cluster rarely wants otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyOptions {
    /// What the rules are written to.
    pub mode: ProxyMode,
    /// Pods are told by the node's own pod networks (`detectLocalMode: NodeCIDR`); waits for the Node.
    pub locality_from_node: bool,
    /// Node ports are served on the node's first internal address of each family only
    /// (`nodePortAddresses: [primary]`); waits for the Node.
    pub node_ports_on_primary: bool,
    /// The limits of connection tracking; `None` leaves them alone.
    pub conntrack: Option<ConntrackLimits>,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            mode: ProxyMode::Nftables,
            locality_from_node: false,
            node_ports_on_primary: false,
            conntrack: Some(ConntrackLimits::default()),
        }
    }
}

impl ProxyOptions {
    /// Whether nothing can be programmed before the Node is known.
    pub(super) fn needs_node(&self) -> bool {
        self.locality_from_node || self.node_ports_on_primary
    }
}

impl std::fmt::Debug for ProxyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyConfig")
            .field("node_name", &self.node_name)
            .field("table", &self.table)
            .field("health", &self.health)
            .field("metrics", &self.metrics)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
