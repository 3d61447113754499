//! What the node does to keep going: eviction, garbage, certificates.

use prometheus::{IntCounter, IntCounterVec, Registry};

use crate::families::{counter, counters};

/// Counted by the node's own upkeep.
pub struct Node {
    evictions: IntCounterVec,
    images: IntCounterVec,
    client_renewals: IntCounter,
    server_renewals: IntCounter,
}

impl Node {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            evictions: counters(
                registry,
                "kubelet_evictions",
                "Pods that were ended for what is scarce, by its signal.",
                &["eviction_signal"],
            ),
            images: counters(
                registry,
                "kubelet_image_garbage_collected_total",
                "Images that were removed, for their age or for the space that they took.",
                &["reason"],
            ),
            client_renewals: counter(
                registry,
                "kubelet_certificate_manager_client_expiration_renew_errors",
                "Renewals of the node's client certificate that failed.",
            ),
            server_renewals: counter(
                registry,
                "kubelet_server_expiration_renew_errors",
                "Renewals of the node's serving certificate that failed.",
            ),
        }
    }

    /// A pod is ended for what this signal tells (`memory.available`).
    pub fn evicted(&self, signal: &str) {
        self.evictions.with_label_values(&[signal]).inc();
    }

    /// So many images were removed because of this: `age` or `space`.
    pub fn images_removed(&self, reason: &str, count: u64) {
        self.images.with_label_values(&[reason]).inc_by(count);
    }

    /// The client certificate could not be renewed.
    pub fn client_not_renewed(&self) {
        self.client_renewals.inc();
    }

    /// The serving certificate could not be renewed.
    pub fn server_not_renewed(&self) {
        self.server_renewals.inc();
    }
}
