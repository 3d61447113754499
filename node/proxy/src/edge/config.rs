use std::net::SocketAddr;

use knode_client::Client;

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
}

impl std::fmt::Debug for ProxyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyConfig")
            .field("node_name", &self.node_name)
            .field("table", &self.table)
            .field("health", &self.health)
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}
