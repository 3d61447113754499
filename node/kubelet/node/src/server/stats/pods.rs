//! What pods use as a whole, beside their containers: network, processes, volumes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use knode_cri::{NetworkInterfaceUsage, PodSandboxStats, UInt64Value};
use knode_linux::filewatch::{self, FileSystemUsage};

use super::collect::Amount;
use crate::eviction::disk_usage;

/// How long what was measured of volumes is good (upstream: `volumeStatsAggPeriod`).
const LIFETIME: Duration = Duration::from_secs(60);

/// One pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::server) struct Pod {
    pub(in crate::server) id: String,
    pub(in crate::server) name: String,
    pub(in crate::server) namespace: String,
    pub(in crate::server) amount: Amount,
    pub(in crate::server) processes: Option<u64>,
    /// The pod's own interface first.
    pub(in crate::server) interfaces: Vec<Interface>,
    pub(in crate::server) volumes: Vec<Volume>,
}

/// What went over an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Interface {
    pub(in crate::server) name: String,
    pub(in crate::server) rx_bytes: u64,
    pub(in crate::server) rx_errors: u64,
    pub(in crate::server) tx_bytes: u64,
    pub(in crate::server) tx_errors: u64,
}

/// What a volume holds.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::server) struct Volume {
    pub(in crate::server) name: String,
    pub(in crate::server) at: Timestamp,
    pub(in crate::server) used: u64,
    pub(in crate::server) inodes_used: u64,
    pub(in crate::server) fs: FileSystemUsage,
}

/// Pods by uid, as the runtime tells of them.
pub(super) fn of_runtime(stats: Vec<PodSandboxStats>) -> BTreeMap<String, Pod> {
    let mut all = BTreeMap::new();
    for one in stats {
        let attributes = one.attributes.unwrap_or_default();
        let metadata = attributes.metadata.unwrap_or_default();
        let linux = one.linux.unwrap_or_default();
        let (cpu, memory) = (linux.cpu.unwrap_or_default(), linux.memory.unwrap_or_default());
        let number = |value: Option<UInt64Value>| value.map(|value| value.value);
        let network = linux.network.unwrap_or_default();
        let default = network.default_interface.into_iter().map(interface);
        let pod = Pod {
            id: attributes.id,
            name: metadata.name,
            namespace: metadata.namespace,
            amount: Amount {
                cpu_nanoseconds: number(cpu.usage_core_nano_seconds),
                cpu_nanocores: number(cpu.usage_nano_cores),
                working_set: number(memory.working_set_bytes),
                usage: number(memory.usage_bytes),
                rss: number(memory.rss_bytes),
                page_faults: number(memory.page_faults),
                major_page_faults: number(memory.major_page_faults),
            },
            processes: linux.process.and_then(|process| number(process.process_count)),
            interfaces: default
                .chain(network.interfaces.into_iter().map(interface))
                .collect(),
            volumes: Vec::new(),
        };
        all.insert(metadata.uid, pod);
    }
    all
}

fn interface(usage: NetworkInterfaceUsage) -> Interface {
    let number = |value: Option<UInt64Value>| value.map_or(0, |value| value.value);
    Interface {
        name: usage.name,
        rx_bytes: number(usage.rx_bytes),
        rx_errors: number(usage.rx_errors),
        tx_bytes: number(usage.tx_bytes),
        tx_errors: number(usage.tx_errors),
    }
}

/// The machine's interfaces but the loopback, the busiest first.
pub(super) fn of_machine() -> Vec<Interface> {
    let Ok(devices) = procfs::net::dev_status() else {
        return Vec::new();
    };
    let mut all: Vec<Interface> = devices
        .into_values()
        .filter(|device| device.name != "lo" && !device.name.starts_with("veth"))
        .map(|device| Interface {
            name: device.name,
            rx_bytes: device.recv_bytes,
            rx_errors: device.recv_errs,
            tx_bytes: device.sent_bytes,
            tx_errors: device.sent_errs,
        })
        .collect();
    all.sort_by(|one, other| {
        other
            .rx_bytes
            .cmp(&one.rx_bytes)
            .then_with(|| one.name.cmp(&other.name))
    });
    all
}

/// What volumes hold, measured once a minute at most.
#[derive(Default)]
pub(crate) struct Volumes {
    known: Mutex<HashMap<String, (Duration, Vec<Volume>)>>,
}

impl Volumes {
    /// The volumes of each of these pods, by uid.
    pub(super) async fn of(
        &self,
        root: &Path,
        uids: Vec<String>,
        at: Timestamp,
        now: Duration,
    ) -> HashMap<String, Vec<Volume>> {
        let mut known = self.lock().clone();
        known.retain(|uid, (end, _)| uids.contains(uid) && now < *end);
        let missing: Vec<String> = uids.into_iter().filter(|uid| !known.contains_key(uid)).collect();
        let pods = root.join("pods");
        let measured = tokio::task::spawn_blocking(move || {
            let of_pod = |uid: String| {
                let found = measure(&pods.join(&uid).join("volumes"), at);
                (uid, found)
            };
            missing.into_iter().map(of_pod).collect::<Vec<_>>()
        });
        let end = now + LIFETIME;
        // A measurement that broke off is made again the next time.
        let measured = measured.await.unwrap_or_default();
        known.extend(measured.into_iter().map(|(uid, found)| (uid, (end, found))));
        *self.lock() = known.clone();
        known.into_iter().map(|(uid, (_, found))| (uid, found)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Duration, Vec<Volume>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything below `volumes/<plugin>/<name>`. What vanishes meanwhile is not there.
fn measure(volumes: &Path, at: Timestamp) -> Vec<Volume> {
    let below = |directory: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let directories = below(volumes).into_iter().flat_map(|plugin| below(&plugin));
    let one = |path: PathBuf| {
        let (used, inodes_used) = disk_usage(&path).ok()?;
        Some(Volume {
            name: path.file_name()?.to_string_lossy().into_owned(),
            at,
            used,
            inodes_used,
            fs: filewatch::file_system_usage(&path).ok()?,
        })
    };
    directories.filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn volumes_are_measured_once_a_minute() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("pods/u/volumes/kubernetes.io~empty-dir/scratch");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("a"), vec![1; 10_000]).unwrap();
        let volumes = Volumes::default();
        let look = async |now: u64| {
            let uids = vec!["u".to_owned(), "gone".to_owned()];
            let at = Timestamp::UNIX_EPOCH;
            let mut all = volumes.of(root.path(), uids, at, Duration::from_secs(now)).await;
            assert!(all["gone"].is_empty());
            all.remove("u").unwrap().remove(0)
        };
        let first = look(0).await;
        assert_eq!((first.name.as_str(), first.inodes_used), ("scratch", 2));
        assert!(first.used >= 10_000 && first.fs.capacity > 0, "{first:?}");
        std::fs::write(directory.join("b"), vec![1; 10_000]).unwrap();
        assert_eq!(look(59).await, first, "it was measured a moment ago");
        assert_eq!(look(60).await.inodes_used, 3);
    }
}
