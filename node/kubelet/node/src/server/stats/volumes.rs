//! What pods' volumes hold.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use knode_linux::filewatch;
use tokio::time::timeout;

use super::storage::Held;
use crate::ClaimedVolume;
use crate::eviction::disk_usage;
use crate::server::claims::Use;

/// How long what was measured is good (upstream: `volumeStatsAggPeriod`).
const LIFETIME: Duration = Duration::from_secs(60);
/// A server of files that does not answer is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Volumes of drivers, by the name of upstream's plugin for them: what is mounted is one level deeper.
const DRIVERS: &str = "kubernetes.io~csi";
/// Volumes on the node's own disk that go with their pod.
const LOCAL: [&str; 2] = ["kubernetes.io~empty-dir", "kubernetes.io~configmap"];

/// What a volume holds.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::server) struct Volume {
    /// Its name in the pod.
    pub(in crate::server) name: String,
    /// Name and namespace of its claim.
    pub(in crate::server) claim: Option<(String, String)>,
    /// Whether something is wrong with it, where its driver tells.
    pub(in crate::server) abnormal: Option<bool>,
    /// It counts as its pod's ephemeral storage.
    pub(in crate::server) local: bool,
    pub(in crate::server) at: Timestamp,
    pub(in crate::server) held: Held,
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
        claimed: Vec<(ClaimedVolume, Use)>,
        at: Timestamp,
        now: Duration,
    ) -> HashMap<String, Vec<Volume>> {
        let mut known = self.lock().clone();
        known.retain(|uid, (end, _)| uids.contains(uid) && now < *end);
        let missing: Vec<String> = uids.into_iter().filter(|uid| !known.contains_key(uid)).collect();
        let pods = root.join("pods");
        let measured = tokio::task::spawn_blocking(move || {
            let of_pod = |uid: String| {
                let claimed: Vec<_> = claimed.iter().filter(|(one, _)| one.uid == uid).collect();
                let found = measure(&pods.join(&uid).join("volumes"), &claimed, at);
                (uid, found)
            };
            missing.into_iter().map(of_pod).collect::<Vec<_>>()
        });
        let end = now + LIFETIME;
        // A measurement that broke off is made again the next time.
        let measured = match timeout(PATIENCE, measured).await {
            Ok(measured) => measured.unwrap_or_default(),
            Err(_) => {
                tracing::warn!("volumes were not measured: one of them does not answer");
                Vec::new()
            }
        };
        known.extend(measured.into_iter().map(|(uid, found)| (uid, (end, found))));
        *self.lock() = known.clone();
        known.into_iter().map(|(uid, (_, found))| (uid, found)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Duration, Vec<Volume>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything below `volumes/<plugin>/<name>`; what claims are for goes by the pod's names, as the directories' are those
/// of the cluster's volumes. What vanishes meanwhile is not there.
fn measure(volumes: &Path, claimed: &[&(ClaimedVolume, Use)], at: Timestamp) -> Vec<Volume> {
    let mut all = Vec::new();
    for plugin in below(volumes) {
        let kind = plugin
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let own = below(&plugin).into_iter();
        let own = own.filter(|path| !claimed.iter().any(|(one, _)| one.path.starts_with(path)));
        all.extend(own.filter_map(|path| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            let held = match kind == DRIVERS {
                true => Held::whole(filewatch::file_system_usage(&path.join("mount")).ok()?),
                false => of_directory(&path)?,
            };
            Some(Volume {
                name,
                claim: None,
                abnormal: None,
                local: LOCAL.contains(&kind.as_str()) && on_same_disk(&path, &plugin),
                at,
                held,
            })
        }));
    }
    all.extend(claimed.iter().map(|(one, use_)| Volume {
        name: one.volume.clone(),
        claim: Some((one.claim.clone(), one.namespace.clone())),
        abnormal: use_.abnormal,
        local: false,
        at,
        held: use_.held,
    }));
    all
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// What is below a directory, of the file system that it is on.
fn of_directory(path: &Path) -> Option<Held> {
    let (bytes, inodes) = disk_usage(path).ok()?;
    Some(Held {
        bytes,
        inodes: Some(inodes),
        fs: filewatch::file_system_usage(path).ok(),
    })
}

/// False for what is held in memory.
fn on_same_disk(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    device(one) == device(other)
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
            let (at, now) = (Timestamp::UNIX_EPOCH, Duration::from_secs(now));
            let mut all = volumes.of(root.path(), uids, Vec::new(), at, now).await;
            assert!(all["gone"].is_empty());
            all.remove("u").unwrap().remove(0)
        };
        let first = look(0).await;
        assert_eq!((first.name.as_str(), first.held.inodes), ("scratch", Some(2)));
        assert!(first.local && first.held.bytes >= 10_000, "{first:?}");
        assert!(first.held.fs.is_some_and(|fs| fs.capacity > 0), "{first:?}");
        std::fs::write(directory.join("b"), vec![1; 10_000]).unwrap();
        assert_eq!(look(59).await, first, "it was measured a moment ago");
        assert_eq!(look(60).await.held.inodes, Some(3));
    }

    #[test]
    fn what_is_claimed_goes_by_the_pods_names_and_is_measured_where_it_is_mounted() {
        let root = tempfile::tempdir().unwrap();
        let drivers = root.path().join(DRIVERS);
        let (claimed, own) = (drivers.join("pv-1/mount"), drivers.join("inline/mount"));
        for path in [&claimed, &own] {
            std::fs::create_dir_all(path).unwrap();
        }
        let claim = ClaimedVolume {
            uid: "u".into(),
            volume: "data".into(),
            namespace: "ns".into(),
            claim: "disk".into(),
            path: claimed.clone(),
        };
        let use_ = Use {
            held: Held::whole(filewatch::file_system_usage(&claimed).unwrap()),
            abnormal: Some(false),
        };
        let found = measure(root.path(), &[&(claim, use_)], Timestamp::UNIX_EPOCH);
        let names: Vec<_> = found
            .iter()
            .map(|one| (one.name.as_str(), one.claim.is_some(), one.local))
            .collect();
        assert_eq!(names, [("inline", false, false), ("data", true, false)]);
        assert_eq!(found[1].claim, Some(("disk".into(), "ns".into())));
        assert_eq!((found[1].held, found[1].abnormal), (use_.held, Some(false)));
        // Not what is below the directory, but what the file system holds.
        assert!(found[0].held.bytes > 1 << 20, "{found:?}");
    }
}
