use super::ProxyMode;
use crate::apply::{remove_chains, remove_tables, remove_upstream_tables};
use crate::table::TableConfig;

/// Removes what the other mode, or an upstream kube-proxy, has left on this machine, on a thread of its own: our
/// rules are in place already, and whoever came by the old ones goes on.
pub(super) fn remove_in_background(mode: ProxyMode, config: &TableConfig) {
    let name = config.name.clone();
    tokio::task::spawn_blocking(move || {
        let mut errors = remove_upstream_tables();
        match mode {
            ProxyMode::Nftables => errors.extend(remove_chains()),
            ProxyMode::Iptables => errors.extend(remove_tables(&[&name])),
        }
        for error in errors {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "something of another proxy is left"
            );
        }
    });
}
