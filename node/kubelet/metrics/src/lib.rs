//! The kubelet's metrics under upstream's names (`pkg/kubelet/metrics/metrics.go`, `component-base/metrics`).
//!
//! [`Metrics`] holds every instrument that is counted as things happen; whoever sees one happen holds an
//! `Arc<Metrics>` and calls the method that is named for it. What is only a number at the time of asking (pods, file
//! descriptors) is written by [`Page`] when the page is asked for.

mod families;
mod http;
mod node;
mod page;
mod pods;
mod requests;
mod runtime;

use prometheus::{Registry, TextEncoder};

pub use http::{Http, Request};
pub use node::Node;
pub use page::{Page, Value};
pub use pods::{ContainerType, PodStart, Pods, Work};
pub use requests::Requests;
pub use runtime::Runtime;

/// All instruments of one kubelet.
pub struct Metrics {
    registry: Registry,
    /// Pods and their containers.
    pub pods: Pods,
    /// What the container runtime was asked.
    pub runtime: Runtime,
    /// What the kubelet's own API was asked.
    pub http: Http,
    /// What the API server was asked.
    pub requests: Requests,
    /// Eviction, garbage, certificates.
    pub node: Node,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let registry = Registry::new();
        Self {
            pods: Pods::new(&registry),
            runtime: Runtime::new(&registry),
            http: Http::new(&registry),
            requests: Requests::new(&registry),
            node: Node::new(&registry),
            registry,
        }
    }

    /// All that was counted, in Prometheus' text format 0.0.4. A family without a value is left out, as upstream's.
    pub fn text(&self) -> String {
        let families = self.registry.gather();
        // Fails for a family without values only, which gathering leaves out.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_of_what_has_not_happened() {
        let text = Metrics::new().text();
        assert!(!text.contains("kubelet_evictions"), "{text}");
        assert!(text.contains("kubelet_started_pods_total 0\n"), "{text}");
    }
}
