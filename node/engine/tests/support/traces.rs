//! What a daemon leaves on the machine: processes and control groups.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use knode_linux::cgroup::DEFAULT_ROOT;

/// Command lines and working files of processes that name `path`.
pub fn processes_below(path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_err() || name == std::process::id().to_string() {
            continue;
        }
        let open = std::fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let names = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        if names.into_iter().any(|target| target.starts_with(path)) {
            let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!("{name} {}", line.replace('\0', " ")));
        }
    }
    found
}

fn hierarchies() -> Vec<PathBuf> {
    let entries = fs::read_dir(DEFAULT_ROOT).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.push(DEFAULT_ROOT.into());
    found
}

/// Groups of containers (pods' own are the kubelet's) below `parent`, and processes in any.
pub fn groups_below(parent: &str) -> Vec<String> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        let pods = fs::read_dir(hierarchy.join(parent.trim_start_matches('/')));
        for pod in pods.into_iter().flatten().flatten().map(|entry| entry.path()) {
            let processes = fs::read_to_string(pod.join("cgroup.procs")).unwrap_or_default();
            if !processes.is_empty() {
                found.push(format!("{}: {processes}", pod.display()));
            }
            let inner = fs::read_dir(&pod).into_iter().flatten().flatten();
            let inner = inner.map(|entry| entry.path()).filter(|path| path.is_dir());
            found.extend(inner.map(|path| path.display().to_string()));
        }
    }
    found
}

pub fn containers_groups(parent: &str) -> Vec<PathBuf> {
    fn walk(base: &Path, path: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                walk(base, &entry.path(), found);
            }
        }
        if let Ok(relative) = path.strip_prefix(base) {
            found.insert(Path::new("/").join(relative));
        }
    }
    let mut found = BTreeSet::new();
    for hierarchy in hierarchies() {
        let path = hierarchy.join(parent.trim_start_matches('/'));
        if path.exists() {
            walk(&hierarchy, &path, &mut found);
        }
    }
    let mut found: Vec<PathBuf> = found.into_iter().collect();
    found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    found
}
