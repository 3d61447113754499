//! Reading and ending control groups, in version 1 (also beside an empty version 2) and version 2.
//!
//! Paths of groups are the absolute ones that specifications use (`/kubepods/pod1/c1`), without a mount
//! point and without a controller.

mod tree;
mod usage;

use std::io;
use std::path::{Path, PathBuf};

pub use usage::{CpuUsage, MemoryUsage, Usage};

/// Where control groups are mounted unless told otherwise.
pub const DEFAULT_ROOT: &str = "/sys/fs/cgroup";

/// Which of the two interfaces holds the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy a controller; a version 2 hierarchy without controllers may stand beside them.
    V1,
    /// One hierarchy for all.
    V2,
}

/// The control groups of this machine.
#[derive(Debug, Clone)]
pub struct Cgroups {
    root: PathBuf,
    version: Version,
}

impl Cgroups {
    /// Looks what is mounted at `root` (normally [`DEFAULT_ROOT`]).
    ///
    /// # Errors
    /// `NotFound` when there are no control groups.
    pub fn detect(root: &Path) -> io::Result<Self> {
        let version = if root.join("cgroup.controllers").exists() {
            Version::V2
        } else if root.join("memory").join("cgroup.procs").exists() {
            Version::V1
        } else {
            let text = format!("no control groups with a memory controller at {}", root.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        };
        Ok(Self {
            root: root.to_path_buf(),
            version,
        })
    }

    /// Which interface is in use.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The directory of `group` in the hierarchy of `controller`.
    pub fn directory(&self, controller: &str, group: &Path) -> PathBuf {
        let relative = group.strip_prefix("/").unwrap_or(group);
        match self.version {
            Version::V1 => self.root.join(controller).join(relative),
            Version::V2 => self.root.join(relative),
        }
    }

    /// The directories of `group` in every hierarchy where it could exist.
    fn directories(&self, group: &Path) -> io::Result<Vec<PathBuf>> {
        if self.version == Version::V2 {
            return Ok(vec![self.directory("", group)]);
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            // Links are second names of controllers mounted together.
            if entry.file_type()?.is_dir() {
                let relative = group.strip_prefix("/").unwrap_or(group);
                found.push(entry.path().join(relative));
            }
        }
        Ok(found)
    }

    /// Writes `value` into the file `file` of `group`.
    ///
    /// # Errors
    /// Those of the write; the kernel refuses values out of range with `InvalidInput`.
    pub fn write(&self, controller: &str, group: &Path, file: &str, value: &str) -> io::Result<()> {
        std::fs::write(self.directory(controller, group).join(file), value)
    }

    /// How many processes of the group itself the kernel has killed for want of memory, wherever the limit
    /// that they met stands. 0 when there is no such group.
    ///
    /// # Errors
    /// Those of the read.
    pub fn oom_kills(&self, group: &Path) -> io::Result<u64> {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let path = self.directory("memory", group).join(file);
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(keyed(&text, "oom_kill").unwrap_or(0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// The number after `key` in a file of `key value` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests;
