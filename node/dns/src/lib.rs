//! Cluster DNS by the Kubernetes DNS specification 1.1.0, with what CoreDNS' plugin `kubernetes` and kubeadm's
//! Corefile add to it.
//!
//! [`model`] keeps what decides about names, [`zone`] makes records of it, [`wire`] reads and writes messages, all
//! without I/O; [`forward`] asks others for everything else; the rest follows the API and serves sockets.

pub mod forward;
pub mod model;
pub mod wire;
pub mod zone;

mod edge;
mod metrics;

pub use edge::{Config, Dns, Error, Server, SharedModel};
