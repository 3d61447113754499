//! What a node holds: memory, open files, threads, mounts, control groups, links.

use std::fs;
use std::path::Path;

use knode_testkit::Host;

use crate::processes;

/// What there is at one moment.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Proportional set sizes of all processes of the node, MB.
    pub memory_mb: f64,
    /// Processes of the node: daemons and shims.
    pub processes: usize,
    /// Open files of the node's daemon.
    pub open_files: usize,
    /// Threads of the node's daemon.
    pub threads: usize,
    /// Mounts of this mount namespace.
    pub mounts: usize,
    /// Control groups of pods.
    pub cgroups: usize,
    /// Links of the machine.
    pub links: usize,
}

impl Census {
    /// Counts. `processes` are the node's, `daemon` is the one whose files are counted.
    pub fn take(host: &Host, pids: &[u32], daemon: i32) -> Self {
        let entries = |path: String| fs::read_dir(path).map_or(0, Iterator::count);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self {
            memory_mb: processes::pss_mb(pids),
            processes: pids.len(),
            open_files: entries(format!("/proc/{daemon}/fd")),
            threads: entries(format!("/proc/{daemon}/task")),
            mounts: mounts.lines().count(),
            cgroups: groups(Path::new("/sys/fs/cgroup")),
            links: host.ip("-o link").lines().count(),
        }
    }

    /// One line for the table.
    pub fn line(&self) -> String {
        format!(
            "{:.1} MB, {} processes, {} files, {} threads, {} mounts, {} cgroups, {} links",
            self.memory_mb,
            self.processes,
            self.open_files,
            self.threads,
            self.mounts,
            self.cgroups,
            self.links
        )
    }
}

/// Directories of pods in all hierarchies.
fn groups(root: &Path) -> usize {
    let mut count = 0;
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            // A link is another name of a hierarchy that is looked at by its own.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                count += usize::from(entry.file_name().to_string_lossy().starts_with("pod"));
                open.push(entry.path());
            }
        }
    }
    count
}
