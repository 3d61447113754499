//! Nodes: their share of the pod addresses, their health, and the pods that can't stay.

mod evict;
mod health;
mod ipam;
mod lifecycle;
#[cfg(test)]
mod recorded;
mod taints;

use crate::runner::Shared;

/// Where kubelets keep their leases.
pub(crate) const LEASES: &str = "kube-node-lease";

/// Runs the three node controllers until their queues are closed.
pub(crate) async fn run(shared: Shared) {
    tokio::join!(
        ipam::run(shared.clone()),
        lifecycle::run(shared.clone()),
        evict::run(shared)
    );
}
