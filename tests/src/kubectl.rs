//! Every kubectl that the machine has, run inside a host.

use std::path::{Path, PathBuf};

/// The kubectl binaries on the search path and beside the one found there: `kubectl`, `kubectl.1.27`, ….
///
/// Panics where there is none: the tests' Debian packages bring one.
pub fn all() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&path)
        .map(|d| d.join("kubectl"))
        .find(|p| p.is_file())
        .expect("no kubectl on the search path; scripts/debian.sh test installs one");
    let real = first.canonicalize().expect("kubectl's own path");
    let mut found: Vec<PathBuf> = real.parent().map(versions_in).unwrap_or_default();
    if !found.contains(&real) {
        found.push(real);
    }
    found.sort();
    found
}

/// The kubectl that most tests use.
pub fn default() -> PathBuf {
    let all = all();
    all.iter()
        .find(|p| p.ends_with("kubectl"))
        .unwrap_or(&all[0])
        .clone()
}

fn versions_in(dir: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path());
    names
        .filter(|p| {
            let name = p.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            name == "kubectl"
                || name
                    .strip_prefix("kubectl.")
                    .is_some_and(|v| v.chars().all(|c| c.is_ascii_digit() || c == '.'))
        })
        .collect()
}
