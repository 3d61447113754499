//! What the API server is asked (upstream: `component-base/metrics/prometheus/restclient`).

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, Registry};

use crate::families::{counters, histograms};

/// Bounds in seconds.
const BOUNDS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

/// Requests to the API server.
pub struct Requests {
    requests: IntCounterVec,
    durations: HistogramVec,
}

impl Requests {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            requests: counters(
                registry,
                "rest_client_requests_total",
                "Requests to the API server, by the code of the answer.",
                &["code", "host", "method"],
            ),
            durations: histograms(
                registry,
                "rest_client_request_duration_seconds",
                "Seconds until the API server began to answer.",
                BOUNDS,
                &["host", "verb"],
            ),
        }
    }

    /// A request was answered with this code; none where no answer came.
    pub fn answered(&self, host: &str, method: &str, code: Option<u16>, took: Duration) {
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        self.requests.with_label_values(&[&code, host, method]).inc();
        self.durations
            .with_label_values(&[host, method])
            .observe(took.as_secs_f64());
    }
}
