//! Reading and ending control groups, in version 1 (also beside an empty version 2) and version 2.
//!
//! Paths of groups are the absolute ones that specifications use (`/kubepods/pod1/c1`), without a mount
//! point and without a controller.

mod tree;
mod usage;

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
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

    /// The directories of `group` in every hierarchy that is mounted.
    fn directories(&self, group: &Path) -> io::Result<Vec<PathBuf>> {
        if self.version == Version::V2 {
            return Ok(vec![self.directory("", group)]);
        }
        let own = std::fs::metadata(&self.root)?.dev();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            // Links are second names of controllers mounted together, and a directory of the same file system is none
            // that was mounted.
            if entry.file_type()?.is_dir() && entry.metadata()?.dev() != own {
                let relative = group.strip_prefix("/").unwrap_or(group);
                found.push(entry.path().join(relative));
            }
        }
        Ok(found)
    }

    /// Moves the calling process, which must have one thread, into `group`: in version 1 in every hierarchy that has
    /// it, and without the grace period that moving whole processes takes there. A process of several threads is torn
    /// apart.
    ///
    /// # Errors
    /// Those of the kernel; hierarchies that were joined before stay joined. `NotFound` when version 2 has no such group.
    pub fn join_alone(&self, group: &Path) -> io::Result<()> {
        if self.version == Version::V2 {
            return self.write("", group, "cgroup.procs", "0");
        }
        for directory in self.directories(group)? {
            // A version 2 hierarchy beside those of version 1 has no threads to move.
            for file in ["tasks", "cgroup.procs"] {
                match join(&directory.join(file)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => {
                        other?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves the calling process to where it is. Nothing comes of that, but the kernel's lock for moving processes,
    /// which takes a grace period (some 8 ms) to get, is quick to get for a while afterwards. Waits that long.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn stir(&self) -> io::Result<()> {
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let group = own_group(&own, self.version).ok_or(io::ErrorKind::NotFound)?;
        self.write(
            "memory",
            Path::new(group),
            "cgroup.procs",
            &std::process::id().to_string(),
        )
    }

    /// Writes `value` into the file `file` of `group`.
    ///
    /// # Errors
    /// Those of the write; the kernel refuses values out of range with `InvalidInput`. `NotFound` when there is no such
    /// group, or it lacks the controller.
    pub fn write(&self, controller: &str, group: &Path, file: &str, value: &str) -> io::Result<()> {
        write_file(&self.directory(controller, group).join(file), value)
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

/// Writes into a file that is there: trying to make one is refused with words that mislead.
fn write_file(file: &Path, value: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(file)?;
    file.write_all(value.as_bytes())
}

/// Writes the number 0 into a file of a group: that of the writer, which is spared waiting for others.
fn join(file: &Path) -> io::Result<()> {
    write_file(file, "0")
}

/// The group that a process has the memory controller of, out of its `/proc/<pid>/cgroup`.
fn own_group(text: &str, version: Version) -> Option<&str> {
    let wanted = match version {
        Version::V1 => "memory",
        Version::V2 => "",
    };
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        controllers.split(',').any(|name| name == wanted).then_some(group)
    })
}

/// The number after `key` in a file of `key value` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Shares of version 1 (`cpu.shares`, 2 to 262144; what is beyond counts as the nearest of these) as a weight of version 2
/// (`cpu.weight`, 1 to 10000), by the linear rule of the kubelet, for groups of pods.
pub fn cpu_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// As [`cpu_weight`], by the rule that OCI runtimes have for containers since runc 1.3.2 and crun 1.23: a logarithmic one
/// by which the default of 1024 shares is the default weight of 100.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
pub fn container_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil().clamp(1.0, 10_000.0) as u64
        }
    }
}

#[cfg(test)]
mod tests;
