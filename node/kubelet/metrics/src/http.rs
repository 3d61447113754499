//! What the kubelet's own API is asked (upstream: `pkg/kubelet/server/metrics`).

use std::time::Duration;

use prometheus::{DEFAULT_BUCKETS, HistogramVec, IntCounterVec, IntGaugeVec, Registry};

use crate::families::{counters, gauges, histograms};

const LABELS: &[&str] = &["long_running", "method", "path", "server_type"];

/// Requests of the kubelet's API.
pub struct Http {
    requests: IntCounterVec,
    durations: HistogramVec,
    open: IntGaugeVec,
}

/// A request as its labels tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`.
    pub method: &'static str,
    /// The first part of its path, `containerLogs`.
    pub path: &'static str,
    /// Whether it may last as long as a client likes.
    pub long_running: bool,
}

impl Request {
    fn labels(self) -> [&'static str; 4] {
        let long_running = if self.long_running { "true" } else { "false" };
        [long_running, self.method, self.path, "readwrite"]
    }
}

impl Http {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            requests: counters(
                registry,
                "kubelet_http_requests_total",
                "Requests of the kubelet's API.",
                LABELS,
            ),
            durations: histograms(
                registry,
                "kubelet_http_requests_duration_seconds",
                "Seconds until a request of the kubelet's API was answered.",
                DEFAULT_BUCKETS,
                LABELS,
            ),
            open: gauges(
                registry,
                "kubelet_http_inflight_requests",
                "Requests of the kubelet's API that are being answered.",
                LABELS,
            ),
        }
    }

    /// A request has come.
    pub fn came(&self, request: Request) {
        let labels = request.labels();
        self.requests.with_label_values(&labels).inc();
        self.open.with_label_values(&labels).inc();
    }

    /// It is answered, or given up.
    pub fn answered(&self, request: Request, took: Duration) {
        let labels = request.labels();
        self.open.with_label_values(&labels).dec();
        self.durations
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
    }
}
