use std::io;
use std::net::SocketAddr;

/// Why the server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster's domain is no name.
    #[error("{0:?} is not a domain")]
    Domain(String),
    /// It would have to listen on all addresses at once, and answers would not come from where questions went.
    #[error("cannot serve DNS on {0}: name the addresses one by one")]
    Unspecified(SocketAddr),
    /// An address is taken, or not the machine's.
    #[error("listen on {address} for {what}")]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
}
