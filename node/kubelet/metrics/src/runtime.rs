//! What the container runtime was asked (upstream: `kuberuntime/instrumented_services.go`).

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, Registry};

use crate::families::{counters, histograms};

const LABELS: &[&str] = &["operation_type"];

/// Calls of the container runtime.
pub struct Runtime {
    operations: IntCounterVec,
    errors: IntCounterVec,
    durations: HistogramVec,
}

impl Runtime {
    pub(crate) fn new(registry: &Registry) -> Self {
        // From 5 ms on, fourteen of them, each 2.5 times the one before.
        let buckets = prometheus::exponential_buckets(0.005, 2.5, 14).unwrap_or_default();
        Self {
            operations: counters(
                registry,
                "kubelet_runtime_operations_total",
                "Cumulative number of runtime operations by operation type.",
                LABELS,
            ),
            errors: counters(
                registry,
                "kubelet_runtime_operations_errors_total",
                "Cumulative number of runtime operation errors by operation type.",
                LABELS,
            ),
            durations: histograms(
                registry,
                "kubelet_runtime_operations_duration_seconds",
                "Duration in seconds of runtime operations. Broken down by operation type.",
                &buckets,
                LABELS,
            ),
        }
    }
}

impl knode_cri::Observer for crate::Metrics {
    fn called(&self, method: &'static str, took: Duration, failed: bool) {
        let operation = operation(method);
        let labels = [operation.as_str()];
        let runtime = &self.runtime;
        runtime.operations.with_label_values(&labels).inc();
        runtime
            .durations
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
        if failed {
            runtime.errors.with_label_values(&labels).inc();
        }
    }
}

/// Upstream's word for a method of CRI.
fn operation(method: &str) -> String {
    match method {
        "update_container_resources" => "update_container".to_owned(),
        "container_events" => "get_container_events".to_owned(),
        other => other.replace("pod_sandbox", "podsandbox"),
    }
}

#[cfg(test)]
mod tests {
    use knode_cri::Observer;

    use super::*;
    use crate::Metrics;

    #[test]
    fn calls_have_upstreams_words() {
        assert_eq!(operation("run_pod_sandbox"), "run_podsandbox");
        assert_eq!(operation("list_pod_sandbox_stats"), "list_podsandbox_stats");
        assert_eq!(operation("exec_sync"), "exec_sync");
        assert_eq!(operation("update_container_resources"), "update_container");
    }

    #[test]
    fn a_call_that_fails_is_counted_twice() {
        let metrics = Metrics::new();
        metrics.called("create_container", Duration::from_millis(7), false);
        metrics.called("create_container", Duration::from_millis(70), true);
        let text = metrics.text();
        for line in [
            "kubelet_runtime_operations_total{operation_type=\"create_container\"} 2",
            "kubelet_runtime_operations_errors_total{operation_type=\"create_container\"} 1",
            "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"create_container\",le=\"0.0125\"} 1",
            "kubelet_runtime_operations_duration_seconds_count{operation_type=\"create_container\"} 2",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\nis not in\n{text}");
        }
    }
}
