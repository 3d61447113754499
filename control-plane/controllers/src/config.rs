//! What the controllers are told.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use knode_client::{Client, Clock};
use knode_pki::CertificateAuthority;
use tokio::sync::watch;

/// Everything that the controllers need from outside.
#[derive(Clone)]
pub struct ControllersConfig {
    /// A client with the rights of `system:kube-controller-manager`: it reads.
    pub client: Client,
    /// Makes the client of one controller, by the name of its service account in kube-system: it writes.
    pub clients: Arc<dyn Fn(&str) -> Client + Send + Sync>,
    /// Signs certificate requests; pods verify the API server by its certificates (`kube-root-ca.crt`). May be
    /// replaced while the controllers run.
    pub authority: watch::Receiver<Arc<CertificateAuthority>>,
    /// The longest, and usual, life of a signed certificate (upstream: `--cluster-signing-duration`).
    pub signing_duration: Duration,
    /// The addresses of pods: one range, or one of each family, the primary first.
    pub pod_ranges: Vec<PodRange>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A range of pod addresses, of which each node gets a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRange {
    /// The range.
    pub cidr: IpNet,
    /// Prefix length of a node's subnet (`--node-cidr-mask-size-ipv4`, `-ipv6`; 24 and 64 by default), not
    /// shorter than the range's own.
    pub node_mask: u8,
}
