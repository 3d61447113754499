//! Who listens on a TCP port, by `/proc`.

use std::fs;
use std::path::Path;

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its id.
    pub pid: u32,
    /// Its command name (`/proc/PID/comm`).
    pub name: String,
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// The listener in words for a message: `process 1 (init)`, or `another process` where it can't be told.
pub fn holder(port: u16) -> String {
    listener(port).map_or_else(|| "another process".to_owned(), |found| found.to_string())
}

/// State number of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The process that listens on a TCP port in this network namespace; none if nobody does, or nobody whose
/// descriptors we may see.
pub fn listener(port: u16) -> Option<Listener> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| inodes(table, port))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter(|_| !inodes.is_empty()).find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        holds(&entry.path(), &inodes).then(|| Listener {
            pid,
            name: name_of(&entry.path()),
        })
    })
}

fn inodes(table: &str, port: u16) -> Vec<String> {
    let text = fs::read_to_string(table).unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| inode_of(line, port))
        .collect()
}

fn inode_of(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = fields.get(1)?.rsplit_once(':')?.1;
    let listens = *fields.get(3)? == LISTEN && u16::from_str_radix(local, 16).ok()? == port;
    listens.then(|| format!("socket:[{}]", fields.get(9).copied().unwrap_or_default()))
}

fn holds(process: &Path, inodes: &[String]) -> bool {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    descriptors
        .filter_map(|d| fs::read_link(d.path()).ok())
        .any(|target| target.to_str().is_some_and(|t| inodes.iter().any(|i| i == t)))
}

fn name_of(process: &Path) -> String {
    fs::read_to_string(process.join("comm"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_ourselves() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(listener(port).map(|l| l.pid), Some(std::process::id()));
        drop(socket);
        assert_eq!(listener(port), None);
    }
}
