//! `kubelet_volume_stats_*`: how full the volumes of claims are
//! (upstream: `pkg/kubelet/metrics/collectors/volume_stats.go`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use knode_linux::filewatch::{FileSystemUsage, file_system_usage};
use tokio::time::timeout;

/// A server of files that does not answer is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Use by namespace and claim; of a claim that several pods use one.
type Uses = BTreeMap<(String, String), FileSystemUsage>;
/// A metric's name, its help, and its value.
type Metric = (&'static str, &'static str, fn(&FileSystemUsage) -> u64);

const METRICS: &[Metric] = &[
    (
        "available_bytes",
        "Number of available bytes in the volume",
        |use_| use_.available,
    ),
    ("capacity_bytes", "Capacity in bytes of the volume", |use_| {
        use_.capacity
    }),
    ("inodes", "Maximum number of inodes in the volume", |use_| {
        use_.inodes
    }),
    ("inodes_free", "Number of free inodes in the volume", |use_| {
        use_.inodes_free
    }),
    ("inodes_used", "Number of used inodes in the volume", |use_| {
        use_.inodes.saturating_sub(use_.inodes_free)
    }),
    ("used_bytes", "Number of used bytes in the volume", |use_| {
        use_.used
    }),
];

/// The metrics of these volumes: namespace, claim, and where it is mounted.
pub(super) async fn text(volumes: Vec<(String, String, PathBuf)>) -> String {
    if volumes.is_empty() {
        return String::new();
    }
    let measured = tokio::task::spawn_blocking(move || measure(volumes));
    match timeout(PATIENCE, measured).await {
        Ok(Ok(uses)) => written(&uses),
        Ok(Err(error)) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "volumes were not measured"
            );
            String::new()
        }
        Err(_) => {
            tracing::warn!("volumes were not measured: one of them does not answer");
            String::new()
        }
    }
}

/// What vanishes meanwhile is not there.
fn measure(volumes: Vec<(String, String, PathBuf)>) -> Uses {
    let use_of = |(namespace, claim, path): (String, String, PathBuf)| {
        Some(((namespace, claim), file_system_usage(&path).ok()?))
    };
    volumes.into_iter().filter_map(use_of).collect()
}

fn written(uses: &Uses) -> String {
    let mut out = String::new();
    for (name, help, value) in METRICS {
        let name = format!("kubelet_volume_stats_{name}");
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} [ALPHA] {help}\n# TYPE {name} gauge");
        for ((namespace, claim), one) in uses {
            let labels = format!("namespace={namespace:?},persistentvolumeclaim={claim:?}");
            let _ = writeln!(out, "{name}{{{labels}}} {}", value(one));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn claims_are_measured_once_each() {
        let directory = tempfile::tempdir().unwrap();
        let volume = |claim: &str, path: PathBuf| ("ns".to_owned(), claim.to_owned(), path);
        let here = directory.path().to_owned();
        let gone = here.join("gone");
        let text = text(vec![
            volume("data", here.clone()),
            volume("data", here),
            volume("gone", gone),
        ])
        .await;
        let labels = "{namespace=\"ns\",persistentvolumeclaim=\"data\"}";
        for (name, ..) in METRICS {
            let start = format!("kubelet_volume_stats_{name}{labels} ");
            let found: Vec<_> = text.lines().filter(|line| line.starts_with(&start)).collect();
            assert_eq!(found.len(), 1, "{start}: {text}");
        }
        let of = |name: &str| {
            let start = format!("kubelet_volume_stats_{name}{labels} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
            line.parse::<u64>().unwrap()
        };
        assert!(
            of("used_bytes") + of("available_bytes") <= of("capacity_bytes"),
            "{text}"
        );
        assert!(of("capacity_bytes") > 0);
        assert!(!text.contains("gone"));
    }
}
