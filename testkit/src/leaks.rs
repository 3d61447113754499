//! What the kernel holds, before and after: links, mounts, processes, cgroups, namespaces, the nft ruleset.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::hosts::Host;

/// The state of a machine (or of a host, for what is in its network namespace) at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// Network links by name, in the host's namespace.
    pub links: BTreeSet<String>,
    /// Routes, in the host's namespace.
    pub routes: BTreeSet<String>,
    /// Lines of the nft ruleset, in the host's namespace.
    pub ruleset: Vec<String>,
    /// Mount points of this mount namespace.
    pub mounts: BTreeSet<PathBuf>,
    /// Command lines of the processes whose command line or environment contains the marker, with their ids.
    pub processes: BTreeSet<String>,
    /// A node's directories (`knode…`, `kubepods…`) in every cgroup hierarchy.
    pub cgroups: BTreeSet<PathBuf>,
    /// Names in `/run/netns`.
    pub namespaces: BTreeSet<String>,
}

impl Traces {
    /// Looks at everything. `marker` is a string that all processes of interest have in their command line or
    /// environment, such as the data directory.
    ///
    /// # Panics
    /// When `ip` or `nft` cannot be run, or `/proc` not read.
    #[track_caller]
    pub fn of(host: &Host, marker: &str) -> Self {
        Self {
            links: host.ip("-o link").lines().filter_map(link_name).collect(),
            routes: host
                .ip("route show table all")
                .lines()
                .map(str::trim)
                .filter(|route| !is_of_link(route))
                .map(str::to_owned)
                .collect(),
            ruleset: host
                .run("nft", &["list", "ruleset"])
                .lines()
                .map(str::to_owned)
                .collect(),
            mounts: knode_linux::overlay::mount_points_below(Path::new("/"))
                .unwrap_or_default()
                .into_iter()
                .collect(),
            processes: processes(marker),
            cgroups: directories(Path::new("/sys/fs/cgroup"))
                .into_iter()
                .filter(|group| is_ours(group))
                .collect(),
            namespaces: names(Path::new("/run/netns")),
        }
    }

    /// What `after` has that this has not, and the other way round, one line each. Empty when nothing changed.
    pub fn differences(&self, after: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        compare("link", &self.links, &after.links, &mut lines);
        compare("route", &self.routes, &after.routes, &mut lines);
        compare("rule", &set(&self.ruleset), &set(&after.ruleset), &mut lines);
        compare("mount", &shown(&self.mounts), &shown(&after.mounts), &mut lines);
        compare("process", &self.processes, &after.processes, &mut lines);
        compare(
            "cgroup",
            &shown(&self.cgroups),
            &shown(&after.cgroups),
            &mut lines,
        );
        compare("namespace", &self.namespaces, &after.namespaces, &mut lines);
        lines
    }
}

fn compare(what: &str, before: &BTreeSet<String>, after: &BTreeSet<String>, lines: &mut Vec<String>) {
    lines.extend(
        after
            .difference(before)
            .map(|item| format!("{what} left behind: {item}")),
    );
    lines.extend(
        before
            .difference(after)
            .map(|item| format!("{what} gone: {item}")),
    );
}

fn set(lines: &[String]) -> BTreeSet<String> {
    lines.iter().cloned().collect()
}

fn shown(paths: &BTreeSet<PathBuf>) -> BTreeSet<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

/// Whether the kernel makes this IPv6 route some time after the link has come up, or once it forwards; it goes with the
/// link.
fn is_of_link(route: &str) -> bool {
    let begins = ["multicast ff00::/8", "fe80::/64", "local fe80:", "anycast "];
    begins.iter().any(|begin| route.starts_with(begin))
}

fn link_name(line: &str) -> Option<String> {
    let name = line.split(": ").nth(1)?;
    Some(name.split('@').next().unwrap_or(name).to_owned())
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn processes(marker: &str) -> BTreeSet<String> {
    let own = std::process::id().to_string();
    let mut found = BTreeSet::new();
    for id in names(Path::new("/proc")) {
        if id == own || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // A process that ended meanwhile is not left behind.
        let read = |file: &str| fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        if command.contains(marker) || String::from_utf8_lossy(&read("environ")).contains(marker) {
            found.insert(format!("{id} {}", command.trim()));
        }
    }
    found
}

/// Whether a control group can be a node's: others' come and go on a machine that works.
fn is_ours(group: &Path) -> bool {
    let mut parts = group.iter().map(|part| part.to_string_lossy());
    parts.any(|part| part.starts_with("knode") || part.starts_with("kubepods"))
}

fn directories(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(entry.path());
                found.insert(entry.path());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_behind_is_named() {
        let host = Host::new("leaky");
        let marker = format!("knode-leak-marker-{}", std::process::id());
        let before = Traces::of(&host, &marker);
        host.ip("link add left0 type bridge");
        let process = host.spawn("sleeper", "sleep", &["1000"]);
        let marked = {
            let mut command = host.command("sleep");
            command.arg("1000").env("MARK", &marker);
            crate::Process::spawn("marked", command)
        };
        let seen = crate::wait_until("the marked process", std::time::Duration::from_secs(5), || {
            let lines = before.differences(&Traces::of(&host, &marker));
            lines
                .iter()
                .any(|line| line.starts_with("process left behind") && line.contains("sleep 1000"))
                .then_some(lines)
        });
        assert!(seen.contains(&"link left behind: left0".to_owned()), "{seen:?}");
        drop((process, marked));
        host.ip("link delete left0");
        let after = before.differences(&Traces::of(&host, &marker));
        let own = |line: &&String| {
            line.starts_with("link") || line.starts_with("process") || line.starts_with("rule")
        };
        assert_eq!(
            after.iter().filter(own).collect::<Vec<_>>(),
            Vec::<&String>::new()
        );
    }
}
