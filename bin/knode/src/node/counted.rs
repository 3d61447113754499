//! What the kubelet's parts ask of others, counted.

use std::sync::Arc;
use std::time::Duration;

use knode_client::RequestObserver;
use knode_kubelet_metrics::Metrics;

/// Counts requests to the API server.
pub struct Requests(pub Arc<Metrics>);

impl RequestObserver for Requests {
    fn answered(&self, host: &str, method: &str, code: Option<u16>, took: Duration) {
        self.0.requests.answered(host, method, code, took);
    }
}
