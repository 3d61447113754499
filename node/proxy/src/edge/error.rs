use std::net::SocketAddr;

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Health or metrics cannot be served there.
    #[error("cannot serve {what} of the service proxy on {address}")]
    Listen {
        /// Which of them.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// No access to nftables.
    #[error("cannot work with nftables")]
    Nftables(#[source] knode_nft::Error),
    /// No iptables.
    #[error("cannot work with iptables")]
    Iptables(#[source] crate::apply::IptablesError),
}
