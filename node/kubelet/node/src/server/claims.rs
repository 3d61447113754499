//! How full the volumes of claims are, and `kubelet_volume_stats_*`
//! (upstream: `pkg/kubelet/metrics/collectors/volume_stats.go`).

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use knode_linux::filewatch::file_system_usage;
use tokio::time::timeout;

use super::stats::Held;
use crate::{ClaimedVolume, PodSource, VolumeUsage};

/// A driver, or a server of files, that does not answer is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what was measured is good (upstream: `volumeStatsAggPeriod`).
const LIFETIME: Duration = Duration::from_secs(60);

/// How full a claim's volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Use {
    pub(in crate::server) held: Held,
    /// Whether something is wrong with it, where its driver tells.
    pub(in crate::server) abnormal: Option<bool>,
}

/// Use by namespace and claim; of a claim that several pods use one.
type Uses = BTreeMap<(String, String), Use>;
/// A metric's name, its help, and its value.
type Metric = (&'static str, &'static str, fn(&Use) -> Option<u64>);

const METRICS: &[Metric] = &[
    (
        "available_bytes",
        "Number of available bytes in the volume",
        |use_| Some(use_.held.fs?.available),
    ),
    ("capacity_bytes", "Capacity in bytes of the volume", |use_| {
        Some(use_.held.fs?.capacity)
    }),
    (
        "health_status_abnormal",
        "Whether something is wrong with the volume (1), or nothing is (0), by its driver",
        |use_| use_.abnormal.map(u64::from),
    ),
    ("inodes", "Maximum number of inodes in the volume", |use_| {
        Some(use_.held.fs?.inodes)
    }),
    ("inodes_free", "Number of free inodes in the volume", |use_| {
        Some(use_.held.fs?.inodes_free)
    }),
    ("inodes_used", "Number of used inodes in the volume", |use_| {
        use_.held.inodes
    }),
    ("used_bytes", "Number of used bytes in the volume", |use_| {
        Some(use_.held.bytes)
    }),
];

/// How full claims are, measured once a minute at most.
#[derive(Default)]
pub(crate) struct Claims {
    known: Mutex<HashMap<PathBuf, (Duration, Use)>>,
}

impl Claims {
    /// Those that are mounted. Their drivers are asked, else their file systems; what does not answer is left out.
    pub(super) async fn of(&self, pods: &dyn PodSource, now: Duration) -> Vec<(ClaimedVolume, Use)> {
        let all = pods.claimed_volumes();
        self.lock()
            .retain(|path, (end, _)| now < *end && all.iter().any(|one| one.path == *path));
        // One that does not answer holds up no other.
        let uses = all.into_iter().map(|one| async {
            let known = self.lock().get(&one.path).map(|(_, use_)| *use_);
            let use_ = match known {
                Some(known) => known,
                None => measure(pods, &one).await?,
            };
            self.lock()
                .entry(one.path.clone())
                .or_insert((now + LIFETIME, use_));
            Some((one, use_))
        });
        join_all(uses).await.into_iter().flatten().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, (Duration, Use)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn measure(pods: &dyn PodSource, one: &ClaimedVolume) -> Option<Use> {
    let path = one.path.clone();
    let measured = timeout(PATIENCE, async {
        if let Some(told) = pods.volume_usage(&one.path).await {
            return Some(by_driver(told));
        }
        // What vanishes meanwhile is not there.
        let fs = tokio::task::spawn_blocking(move || file_system_usage(&path).ok());
        fs.await.ok()?.map(|fs| Use {
            held: Held::whole(fs),
            abnormal: None,
        })
    });
    match measured.await {
        Ok(measured) => measured,
        Err(_) => {
            let (namespace, claim) = (&one.namespace, &one.claim);
            tracing::warn!(
                namespace,
                claim,
                "the volume was not measured: it does not answer"
            );
            None
        }
    }
}

fn by_driver(told: VolumeUsage) -> Use {
    Use {
        held: Held {
            bytes: told.fs.used,
            inodes: Some(told.inodes_used),
            fs: Some(told.fs),
        },
        abnormal: told.abnormal,
    }
}

/// The metrics of these volumes.
pub(super) fn text(volumes: Vec<(ClaimedVolume, Use)>) -> String {
    let named = |(one, use_): (ClaimedVolume, Use)| ((one.namespace, one.claim), use_);
    let uses: Uses = volumes.into_iter().map(named).collect();
    let mut out = String::new();
    for (name, help, value) in METRICS {
        let name = format!("kubelet_volume_stats_{name}");
        let mut lines = String::new();
        for ((namespace, claim), one) in &uses {
            let Some(value) = value(one) else { continue };
            let labels = format!("namespace={namespace:?},persistentvolumeclaim={claim:?}");
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{name}{{{labels}}} {value}");
        }
        if !lines.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP {name} [ALPHA] {help}\n# TYPE {name} gauge");
            out.push_str(&lines);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;
    use k8s_openapi::api::core::v1::Pod;
    use knode_linux::filewatch::FileSystemUsage;

    use super::*;
    use crate::PodEviction;

    /// Two pods with one claim, one with a volume that is gone, and one whose driver tells.
    struct Some_ {
        here: PathBuf,
        asked: AtomicU64,
    }

    #[async_trait]
    impl PodSource for Some_ {
        fn pods(&self) -> Vec<Arc<Pod>> {
            Vec::new()
        }

        async fn evict(&self, _: &str, _: PodEviction) -> bool {
            false
        }

        fn claimed_volumes(&self) -> Vec<ClaimedVolume> {
            let volume = |claim: &str, path: PathBuf| ClaimedVolume {
                namespace: "ns".to_owned(),
                claim: claim.to_owned(),
                path,
                ..ClaimedVolume::default()
            };
            let (here, gone) = (self.here.clone(), self.here.join("gone"));
            vec![
                volume("data", here.clone()),
                volume("data", here),
                volume("gone", gone),
                volume("told", "/told".into()),
            ]
        }

        async fn volume_usage(&self, path: &Path) -> Option<VolumeUsage> {
            if path != Path::new("/told") {
                return None;
            }
            Some(VolumeUsage {
                fs: FileSystemUsage {
                    capacity: 100,
                    available: 60,
                    used: 40 + self.asked.fetch_add(1, Ordering::Relaxed),
                    inodes: 0,
                    inodes_free: 0,
                },
                inodes_used: 4,
                abnormal: Some(true),
            })
        }
    }

    #[tokio::test]
    async fn claims_are_measured_once_each_and_by_their_drivers() {
        let directory = tempfile::tempdir().unwrap();
        let pods = Some_ {
            here: directory.path().to_owned(),
            asked: AtomicU64::new(0),
        };
        let claims = Claims::default();
        let at = |seconds| claims.of(&pods, Duration::from_secs(seconds));
        let text = text(at(0).await);
        let of = |claim: &str, name: &str| {
            let start =
                format!("kubelet_volume_stats_{name}{{namespace=\"ns\",persistentvolumeclaim=\"{claim}\"}} ");
            let found: Vec<_> = text
                .lines()
                .filter_map(|line| line.strip_prefix(&start))
                .collect();
            assert!(found.len() <= 1, "{start}: {text}");
            found.first().map(|value| value.parse::<u64>().unwrap())
        };
        let data = |name| of("data", name).unwrap();
        assert!(
            data("used_bytes") + data("available_bytes") <= data("capacity_bytes"),
            "{text}"
        );
        assert!(data("capacity_bytes") > 0);
        assert_eq!(of("data", "health_status_abnormal"), None);
        assert_eq!(of("told", "health_status_abnormal"), Some(1));
        assert_eq!(of("told", "used_bytes"), Some(40));
        assert_eq!(of("told", "inodes_used"), Some(4));
        assert!(!text.contains("gone"));
        let used = |all: Vec<(ClaimedVolume, Use)>| all.last().unwrap().1.held.bytes;
        assert_eq!(used(at(59).await), 40, "it was asked a moment ago");
        assert_eq!(used(at(60).await), 41);
    }
}
