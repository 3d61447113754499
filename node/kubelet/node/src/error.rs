//! What can keep a node from joining or serving.

use std::net::SocketAddr;
use std::path::PathBuf;

/// A failed operation of the node agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Certificates, keys or kubeconfigs cannot be used or written.
    #[error("cannot use the node's credentials")]
    Credentials(#[from] knode_pki::Error),
    /// No client can be made of the credentials.
    #[error("cannot make a client")]
    Client(#[source] knode_client::Error),
    /// There is no valid kubeconfig, and no bootstrap kubeconfig to get one with.
    #[error(
        "{} is no way into the cluster: {why}; run `knode token create` on the control plane and the line it prints here, or name a file with a valid token by --bootstrap-kubeconfig",
        path.display()
    )]
    NoCredentials {
        /// Where the kubeconfig was looked for.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The kubeconfig of the node's cluster names no authority.
    #[error("{} names no certificate authority", path.display())]
    NoAuthority {
        /// The kubeconfig.
        path: PathBuf,
    },
    /// The kubeconfig is another node's.
    #[error(
        "the certificate of {} is that of {shown}, and this node is called {node}: start it under its old name (--node-name), or take that file away so that the node asks for another certificate",
        path.display()
    )]
    OtherNode {
        /// The kubeconfig.
        path: PathBuf,
        /// The user of its certificate.
        shown: String,
        /// This node's name.
        node: String,
    },
    /// The bootstrap credential is not accepted.
    #[error(
        "{server} does not accept the credential in {}: its token has expired, was deleted or is another cluster's; run `knode token create` on the control plane and the line it prints here (this node's own kubeconfig cannot be used: {why}). Nothing was changed here",
        path.display()
    )]
    BootstrapRefused {
        /// The bootstrap kubeconfig.
        path: PathBuf,
        /// The API server.
        server: String,
        /// Why the node's own credential is not used.
        why: String,
    },
    /// The certificate request could not be sent.
    #[error("cannot request a certificate from signer {signer}")]
    Request {
        /// The signer.
        signer: &'static str,
        /// The API's answer.
        #[source]
        source: knode_client::ApiError,
    },
    /// A request of this name is there and is not ours.
    #[error("certificate request {name} exists with another {what}; delete it to let this node join")]
    ForeignRequest {
        /// The request's name.
        name: String,
        /// What differs.
        what: &'static str,
    },
    /// The request was denied.
    #[error("certificate request {name} was denied: {reason}: {message}")]
    Denied {
        /// The request's name.
        name: String,
        /// The approver's reason.
        reason: String,
        /// The approver's message.
        message: String,
    },
    /// The request was approved, but signing it failed.
    #[error("certificate request {name} failed: {reason}: {message}")]
    Failed {
        /// The request's name.
        name: String,
        /// The signer's reason.
        reason: String,
        /// The signer's message.
        message: String,
    },
    /// The request vanished before it was signed.
    #[error("certificate request {0} was deleted before it was signed")]
    RequestGone(String),
    /// Nobody approved and signed the request in time.
    #[error(
        "certificate request {name} was not signed within {seconds} s; approve it with `kubectl certificate approve {name}`"
    )]
    NotSigned {
        /// The request's name.
        name: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The signed certificate is not for our key.
    #[error("certificate request {0} was answered with a certificate for another key")]
    ForeignCertificate(String),
    /// The machine could not be inspected.
    #[error("cannot read {what}")]
    Machine {
        /// What was read.
        what: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Manifests of static pods cannot be fetched like this.
    #[error("staticPodURL {url}: {reason}")]
    ManifestUrl {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The manifests of static pods could not be fetched.
    #[error("cannot fetch {url}")]
    Fetch {
        /// The URL.
        url: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The container runtime does not answer.
    #[error("the container runtime does not answer {call}")]
    Runtime {
        /// The CRI call.
        call: &'static str,
        /// Its error.
        #[source]
        source: knode_cri::CriError,
    },
    /// Somebody else listens on the port.
    #[error("{address} is taken by {holder}")]
    PortTaken {
        /// The address.
        address: SocketAddr,
        /// Who holds it, as far as can be seen.
        holder: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The serving certificate that was given cannot be used.
    #[error("cannot serve with the certificate {} and the key {}", cert.display(), key.display())]
    Given {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
        /// Why not.
        #[source]
        source: Box<Error>,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The certificates that clients are verified with cannot be used.
    #[error("cannot verify clients with the given certificate authority")]
    ClientCa(#[source] rustls::server::VerifierBuilderError),
    /// The API server refused the node object.
    #[error("cannot register node {name}")]
    Register {
        /// The node's name.
        name: String,
        /// The API's answer.
        #[source]
        source: knode_client::ApiError,
    },
}
