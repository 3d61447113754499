//! Kubeconfig files: how to reach a cluster, and as whom.

mod access;
mod file;

pub use access::{Access, Material};
pub use file::{Cluster, ClusterEntry, Context, ContextEntry, Kubeconfig, Named, User, UserEntry};
