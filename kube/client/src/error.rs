//! What can go wrong before a request is sent.

/// A client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's URL is not one.
    #[error("{url:?} is not a server URL")]
    ServerUrl {
        /// What was given.
        url: String,
        /// The parser's reason, if it gave one.
        #[source]
        source: Option<http::uri::InvalidUri>,
    },
    /// Kubeconfig, certificate or key cannot be used.
    #[error("cannot use the client's credentials")]
    Credentials(#[source] knode_pki::Error),
    /// HTTPS without an authority to verify the server with.
    #[error("{0} names no certificate authority; trust in the system's authorities is not supported")]
    NoAuthority(String),
    /// The authority's certificate cannot be used.
    #[error("cannot use the certificate authority")]
    Authority(#[source] rustls::Error),
    /// Certificate and key cannot be used by TLS.
    #[error("cannot use the client certificate")]
    Certificate(#[source] rustls::Error),
    /// The name to verify is no DNS name or address.
    #[error("{0:?} is not a server name")]
    ServerName(String),
}
