//! Cluster DNS: alone (`knode dns`), and on every node of a cluster of ours behind one Service address.
//!
//! The control plane makes the Service, nodes say by an annotation that they answer, and the control plane makes
//! endpoints of them. Each endpoint is meant for the pods of its own node (`hints.forNodes`): names are answered on the
//! node where they are asked for, and the loss of a node takes nobody's names away.

mod alone;
mod options;
mod publish;
mod service;
mod serving;

pub use alone::{DnsArgs, run};
pub use options::{ClusterDns, DnsOptions, DnsWish};
pub use publish::{prepare, start as publish};
pub use service::name_servers;
pub use serving::{OnNode, serve};

/// Where the Service is, under upstream's name.
const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";
/// Who made what is ours.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const OURS: &str = "knode";
/// A node that answers says so, and on which port of its addresses.
const PORT_ANNOTATION: &str = "knode/dns-port";
/// Where nodes answer: 53 may be another server's, for the machine itself.
const PORT: u16 = 10053;
