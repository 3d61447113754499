//! What a node holds: processes, memory, open files, namespaces, mounts, control groups, links, disk, stored objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{Cluster, traces};

/// What there is at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    /// Counts, by what is counted, of what pods have and must be gone with them.
    pub of_pods: BTreeMap<&'static str, usize>,
    /// Open files of the daemon, without connections.
    pub open_files: usize,
    /// Threads of the daemon.
    pub threads: usize,
    /// Proportional set sizes of the node's own programs, in MB.
    pub memory_mb: f64,
    /// Bytes of everything in the data directory and, where there is one, in containerd's, but for the store's log
    /// and the daemon's.
    pub disk: u64,
    /// Objects in the store, by resource.
    pub objects: BTreeMap<String, u64>,
}

/// Whose processes, groups and files are counted.
pub struct Extent<'a> {
    cluster: &'a Cluster,
    group: String,
    /// Paths on which mounts of a running node lie.
    scratch: PathBuf,
}

impl<'a> Extent<'a> {
    /// Everything of a cluster.
    pub fn of(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            group: traces::group(Path::new(&cluster.data_dir())),
            scratch: cluster.scratch.path().to_owned(),
        }
    }

    /// Processes of the node: the daemons, shims, and what runs in pods.
    ///
    /// Known by what they were started with, or by the control group that they are in.
    pub fn processes(&self) -> Vec<u32> {
        let marker = self.scratch.display().to_string();
        let own = std::process::id();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        // What has just ended says nothing.
        let mentions = |id: u32, file: &str| {
            let text = fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            text.contains(&marker) || file == "cgroup" && text.contains(&self.group)
        };
        ids.filter(|id| *id != own && ["cmdline", "cgroup"].iter().any(|file| mentions(*id, file)))
            .collect()
    }

    /// Of [`Extent::processes`] the node's own programs: daemons and shims, not what runs in pods.
    pub fn programs(&self) -> Vec<u32> {
        // By the file, not by its name: shims run it on a mount where it has none.
        let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
        let knode = identity(&crate::binary());
        let is_own = |id: &u32| {
            let exe = PathBuf::from(format!("/proc/{id}/exe"));
            let name = fs::read_link(&exe).unwrap_or_default();
            let name = name.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("containerd") || knode.is_some() && identity(&exe) == knode
        };
        self.processes().into_iter().filter(is_own).collect()
    }

    /// Counts.
    pub fn census(&self) -> Census {
        let processes = self.processes();
        let daemon = self.cluster.pid();
        let names = |path: String| fs::read_dir(path).into_iter().flatten().flatten();
        let files = names(format!("/proc/{daemon}/fd")).filter_map(|one| fs::read_link(one.path()).ok());
        let is_connection = |name: &PathBuf| name.to_string_lossy().starts_with("socket:");
        let mounts = knode_linux::overlay::mount_points_below(&self.scratch).unwrap_or_default();
        let of_pods = [
            ("processes", processes.len()),
            ("namespaces", namespaces(&processes)),
            ("mounts", mounts.len()),
            ("groups", groups(Path::new("/sys/fs/cgroup"), &self.group)),
            ("links", self.cluster.host.ip("-o link").lines().count()),
            ("directories", directories(&self.scratch)),
        ];
        Census {
            of_pods: of_pods.into(),
            open_files: files.filter(|name| !is_connection(name)).count(),
            threads: names(format!("/proc/{daemon}/task")).count(),
            memory_mb: memory_mb(&self.programs()),
            disk: disk(&self.scratch),
            objects: objects(&self.cluster.kubectl("get --raw /metrics").stdout),
        }
    }
}

impl Census {
    /// One line for a table.
    pub fn line(&self) -> String {
        let counts = self.of_pods.iter().map(|(what, count)| format!("{count} {what}"));
        let counts: Vec<String> = counts.collect();
        format!(
            "{:.1} MB, {} files, {} threads, {}, {:.1} MB on disk, {} objects",
            self.memory_mb,
            self.open_files,
            self.threads,
            counts.join(", "),
            self.disk as f64 / 1e6,
            self.objects.values().sum::<u64>(),
        )
    }

    /// What there is more of than `before`, one line each: anything that goes with a pod, more than `files` open files,
    /// and objects other than events.
    pub fn more_than(&self, before: &Self, files: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for (what, count) in &self.of_pods {
            let was = before.of_pods.get(what).copied().unwrap_or_default();
            if *count > was {
                lines.push(format!("{what}: {count} after {was}"));
            }
        }
        if self.open_files > before.open_files + files {
            lines.push(format!(
                "open files: {} after {}",
                self.open_files, before.open_files
            ));
        }
        for (resource, count) in self.objects.iter().filter(|(resource, _)| !is_record(resource)) {
            let was = before.objects.get(resource).copied().unwrap_or_default();
            if *count > was {
                lines.push(format!("{resource}: {count} after {was}"));
            }
        }
        lines
    }
}

/// Events are meant to stay for an hour.
fn is_record(resource: &str) -> bool {
    resource.starts_with("events")
}

/// Namespaces of any kind that these processes are in.
fn namespaces(processes: &[u32]) -> usize {
    let mut seen = BTreeSet::new();
    for id in processes {
        let entries = fs::read_dir(format!("/proc/{id}/ns"))
            .into_iter()
            .flatten()
            .flatten();
        seen.extend(entries.filter_map(|entry| fs::read_link(entry.path()).ok()));
    }
    seen.len()
}

/// Control groups below those of a node in all hierarchies.
fn groups(root: &Path, node: &str) -> usize {
    let mut count = 0;
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            // A link is another name of a hierarchy that is looked at by its own.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                count += usize::from(path.to_string_lossy().contains(node));
                open.push(path);
            }
        }
    }
    count
}

/// Directories of pods, sandboxes and containers: of the kubelet, its logs, and the engine.
fn directories(scratch: &Path) -> usize {
    let places = [
        "data/kubelet/pods",
        "data/log/pods",
        "data/log/containers",
        "data/engine/sandboxes",
        "data/engine/containers",
        "data/podnet/leases",
        "containerd/state/io.containerd.runtime.v2.task/k8s.io",
    ];
    let entries = |place: &&str| fs::read_dir(scratch.join(place)).map_or(0, Iterator::count);
    places.iter().map(entries).sum()
}

fn memory_mb(processes: &[u32]) -> f64 {
    let of = |id: &u32| {
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    processes.iter().filter_map(of).sum::<f64>() * 1024.0 / 1e6
}

/// Bytes on the disk below a directory, without what is mounted there and without logs of the daemon and the store,
/// which grow with every change.
fn disk(root: &Path) -> u64 {
    let device = fs::metadata(root).map_or(0, |found| found.dev());
    let mut bytes = 0;
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            let name = entry.file_name();
            let is_log = name == "knode.log" || name.to_string_lossy().contains(".db");
            if found.dev() == device && !is_log {
                bytes += found.blocks() * 512;
                if found.is_dir() {
                    open.push(entry.path());
                }
            }
        }
    }
    bytes
}

/// The numbers of objects on the API server's page of metrics.
fn objects(page: &str) -> BTreeMap<String, u64> {
    let lines = page.lines().filter_map(|line| {
        let rest = line.strip_prefix("apiserver_storage_objects{resource=\"")?;
        let (name, count) = rest.split_once("\"} ")?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_but_events() {
        let page = |pods| {
            format!(
                "# TYPE x gauge\napiserver_storage_objects{{resource=\"pods\"}} {pods}\n\
                 apiserver_storage_objects{{resource=\"events\"}} {pods}0\n"
            )
        };
        let census = |pods: usize| Census {
            of_pods: [("mounts", pods), ("links", 3)].into(),
            open_files: 10 + pods,
            objects: objects(&page(pods)),
            ..Census::default()
        };
        assert_eq!(census(2).more_than(&census(2), 0), Vec::<String>::new());
        let told = census(5).more_than(&census(2), 2);
        assert_eq!(
            told,
            ["mounts: 5 after 2", "open files: 15 after 12", "pods: 5 after 2"]
        );
    }
}
