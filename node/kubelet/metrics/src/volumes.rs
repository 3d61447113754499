//! Volumes and their drivers (upstream: `pkg/volume/util/metrics.go`).

use std::time::Duration;

use prometheus::{HistogramVec, Registry};

use crate::families::histograms;

/// Bounds in seconds.
const BOUNDS: &[f64] = &[
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0,
];

/// Operations on volumes.
pub struct Volumes {
    operations: HistogramVec,
    calls: HistogramVec,
}

impl Volumes {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            operations: histograms(
                registry,
                "storage_operation_duration_seconds",
                "Seconds that an operation on a pod's volumes takes.",
                BOUNDS,
                &["migrated", "operation_name", "status", "volume_plugin"],
            ),
            calls: histograms(
                registry,
                "csi_operations_seconds",
                "Seconds that a CSI driver's method takes, by the code of its answer.",
                BOUNDS,
                &["driver_name", "grpc_status_code", "method_name", "migrated"],
            ),
        }
    }

    /// An operation (`volume_mount`, `volume_unmount`) on a volume of a plugin (`kubernetes.io/secret`) is over.
    pub fn operated(&self, operation: &str, plugin: &str, took: Duration, done: bool) {
        let status = if done { "success" } else { "fail-unknown" };
        self.operations
            .with_label_values(&["false", operation, status, plugin])
            .observe(took.as_secs_f64());
    }

    /// A driver has answered.
    pub fn called(&self, driver: &str, method: &str, code: &str, took: Duration) {
        self.calls
            .with_label_values(&[driver, code, method, "false"])
            .observe(took.as_secs_f64());
    }
}
