//! What the controllers are told.

use std::sync::Arc;

use knode_client::{Client, Clock};
use knode_pki::CertificateAuthority;

/// Everything that the controllers need from outside.
#[derive(Clone)]
pub struct ControllersConfig {
    /// A client with the rights of `system:kube-controller-manager`: it reads.
    pub client: Client,
    /// Makes the client of one controller, by the name of its service account in kube-system: it writes.
    pub clients: Arc<dyn Fn(&str) -> Client + Send + Sync>,
    /// Signs certificate requests; without it they stay unsigned.
    pub signer: Option<Arc<CertificateAuthority>>,
    /// The CA certificates that pods verify the API server by, PEM: `kube-root-ca.crt`.
    pub root_ca_pem: String,
    /// The addresses of pods, of which each node gets a subnet.
    pub pod_cidr: ipnet::Ipv4Net,
    /// Prefix length of a node's subnet, 24 by default.
    pub node_cidr_mask: u8,
    /// The time.
    pub clock: Arc<dyn Clock>,
}
