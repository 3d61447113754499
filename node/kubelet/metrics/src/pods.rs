//! Pods, their containers and their images.

use std::time::Duration;

use prometheus::{DEFAULT_BUCKETS, Histogram, HistogramVec, IntCounter, IntCounterVec, Registry};

use crate::families::{counter, counters, histogram, histograms};

/// Bounds in seconds of what the start of a pod takes.
const STARTUP: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0,
    480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];
/// Bounds in seconds of a pull.
const PULLS: &[f64] = &[
    1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 180.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];
/// Bounds in seconds of a status on its way to the API server.
const STATUSES: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];
/// Sizes of images in bytes, each with the word for those up to it.
const SIZES: &[(u64, &str)] = &[
    (10 << 20, "0-10MB"),
    (100 << 20, "10MB-100MB"),
    (500 << 20, "100MB-500MB"),
    (1 << 30, "500MB-1GB"),
    (5 << 30, "1GB-5GB"),
    (10 << 30, "5GB-10GB"),
    (20 << 30, "10GB-20GB"),
    (30 << 30, "20GB-30GB"),
    (40 << 30, "30GB-40GB"),
    (60 << 30, "40GB-60GB"),
    (100 << 30, "60GB-100GB"),
];

/// What a container is in its pod (label `container_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerType {
    /// One of `containers`.
    Container,
    /// One of `initContainers`.
    Init,
    /// One of `ephemeralContainers`.
    Ephemeral,
}

impl ContainerType {
    fn label(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Init => "init_container",
            Self::Ephemeral => "ephemeral_container",
        }
    }
}

/// What a pod's worker does (label `operation_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It brings the pod up: volumes, sandbox, containers.
    Create,
    /// It changes or tells something of a pod that runs.
    Sync,
    /// It brings the pod down.
    Terminate,
}

impl Work {
    fn label(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Sync => "sync",
            Self::Terminate => "terminate",
        }
    }
}

/// How long the start of a pod has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodStart {
    /// Since the pod was made.
    pub since_created: Duration,
    /// Since this kubelet saw it.
    pub since_seen: Duration,
    /// How much of it went into pulling images and into init containers.
    pub apart: Duration,
}

/// Counted as pods and containers come.
pub struct Pods {
    starts: IntCounter,
    start_errors: IntCounter,
    containers: IntCounterVec,
    container_errors: IntCounterVec,
    rejections: IntCounterVec,
    per_pod: Histogram,
    since_seen: Histogram,
    since_created: Histogram,
    sli: Histogram,
    work: HistogramVec,
    sandboxes: HistogramVec,
    sandbox_errors: IntCounterVec,
    pulls: HistogramVec,
    statuses: Histogram,
}

impl Pods {
    pub(crate) fn new(registry: &Registry) -> Self {
        let one = |name: &str, help: &str| counter(registry, &format!("kubelet_{name}"), help);
        let by = |name: &str, help: &str, labels: &[&str]| {
            counters(registry, &format!("kubelet_{name}"), help, labels)
        };
        let times = |name: &str, help: &str, bounds: &[f64]| {
            histogram(registry, &format!("kubelet_{name}"), help, bounds)
        };
        let times_by = |name: &str, help: &str, bounds: &[f64], label: &str| {
            histograms(registry, &format!("kubelet_{name}"), help, bounds, &[label])
        };
        Self {
            starts: one("started_pods_total", "Sandboxes of pods that were asked for."),
            start_errors: one(
                "started_pods_errors_total",
                "Sandboxes of pods that could not be made.",
            ),
            containers: by(
                "started_containers_total",
                "Containers whose start was begun.",
                &["container_type"],
            ),
            container_errors: by(
                "started_containers_errors_total",
                "Containers that could not be started, by reason.",
                &["code", "container_type"],
            ),
            rejections: by(
                "admission_rejections_total",
                "Pods that this node has not taken, by reason.",
                &["reason"],
            ),
            per_pod: times(
                "containers_per_pod_count",
                "Containers of each pod that came.",
                &[1.0, 2.0, 4.0, 8.0, 16.0],
            ),
            since_seen: times(
                "pod_start_duration_seconds",
                "Seconds from the first sight of a pod until its containers have started.",
                STARTUP,
            ),
            since_created: times(
                "pod_start_total_duration_seconds",
                "Seconds from a pod's creation until its containers have started.",
                STARTUP,
            ),
            sli: times(
                "pod_start_sli_duration_seconds",
                "Seconds from a pod's creation until its containers have started, without pulls and init containers.",
                STARTUP,
            ),
            work: times_by(
                "pod_worker_duration_seconds",
                "Seconds that an operation of a pod's worker takes.",
                DEFAULT_BUCKETS,
                "operation_type",
            ),
            sandboxes: times_by(
                "run_podsandbox_duration_seconds",
                "Seconds that making a sandbox takes, by the runtime class's handler.",
                DEFAULT_BUCKETS,
                "runtime_handler",
            ),
            sandbox_errors: by(
                "run_podsandbox_errors_total",
                "Sandboxes that the runtime could not make, by the runtime class's handler.",
                &["runtime_handler"],
            ),
            pulls: times_by(
                "image_pull_duration_seconds",
                "Seconds that the pull of an image takes, by its size.",
                PULLS,
                "image_size_in_bytes",
            ),
            statuses: times(
                "pod_status_sync_duration_seconds",
                "Seconds that writing a pod's changed status takes.",
                STATUSES,
            ),
        }
    }

    /// A pod came that has so many containers.
    pub fn came(&self, containers: usize) {
        #[allow(clippy::cast_precision_loss)]
        self.per_pod.observe(containers as f64);
    }

    /// A pod was not taken.
    pub fn rejected(&self, reason: &str) {
        self.rejections.with_label_values(&[reason]).inc();
    }

    /// The runtime made a sandbox, or did not.
    pub fn sandbox(&self, handler: &str, took: Duration, made: bool) {
        self.sandboxes
            .with_label_values(&[handler])
            .observe(took.as_secs_f64());
        if !made {
            self.sandbox_errors.with_label_values(&[handler]).inc();
        }
    }

    /// A pod's sandbox was asked for, and is there or not.
    pub fn began(&self, made: bool) {
        self.starts.inc();
        if !made {
            self.start_errors.inc();
        }
    }

    /// The start of a container was begun.
    pub fn container(&self, kind: ContainerType) {
        self.containers.with_label_values(&[kind.label()]).inc();
    }

    /// A container could not be started.
    pub fn container_failed(&self, kind: ContainerType, reason: &str) {
        self.container_errors
            .with_label_values(&[reason, kind.label()])
            .inc();
    }

    /// All containers of a pod have started.
    pub fn started(&self, start: PodStart) {
        self.since_seen.observe(start.since_seen.as_secs_f64());
        self.since_created.observe(start.since_created.as_secs_f64());
        let own = start.since_created.saturating_sub(start.apart);
        self.sli.observe(own.as_secs_f64());
    }

    /// An operation of a worker is over.
    pub fn worked(&self, what: Work, took: Duration) {
        self.work
            .with_label_values(&[what.label()])
            .observe(took.as_secs_f64());
    }

    /// An image of so many bytes was pulled.
    pub fn pulled(&self, bytes: u64, took: Duration) {
        self.pulls
            .with_label_values(&[size(bytes)])
            .observe(took.as_secs_f64());
    }

    /// A status was written.
    pub fn told(&self, took: Duration) {
        self.statuses.observe(took.as_secs_f64());
    }
}

/// The word for images of this size.
fn size(bytes: u64) -> &'static str {
    let found = SIZES.iter().find(|(most, _)| bytes <= *most);
    found.map_or("GT100GB", |(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_images_have_words() {
        let cases = [
            (0, "0-10MB"),
            (10 << 20, "0-10MB"),
            ((10 << 20) + 1, "10MB-100MB"),
            (700 << 20, "500MB-1GB"),
            (101 << 30, "GT100GB"),
        ];
        for (bytes, word) in cases {
            assert_eq!(size(bytes), word, "{bytes}");
        }
    }
}
