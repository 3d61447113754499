//! What a group uses.

use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use super::{Cgroups, Version, keyed};

/// Processor time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// Nanoseconds used since the group was made.
    pub nanoseconds: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Everything charged to the group.
    pub usage: u64,
    /// `usage` without the page cache that has not been touched lately.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// The limit, `None` for none.
    pub limit: Option<u64>,
    /// Page faults since the group was made.
    pub page_faults: u64,
    /// Those that read from disk.
    pub major_page_faults: u64,
    /// Swapped out, 0 where swap is not counted.
    pub swap: u64,
}

/// A reading of one group with its descendants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Processes and threads, 0 where they are not counted.
    pub tasks: u64,
}

impl Cgroups {
    /// Reads what `group` uses.
    ///
    /// # Errors
    /// `NotFound` when there is no such group.
    pub fn usage(&self, group: &Path) -> io::Result<Usage> {
        let memory = self.directory("memory", group);
        let tasks = number(&self.directory("pids", group).join("pids.current")).unwrap_or(0);
        match self.version {
            Version::V1 => {
                let nanoseconds = number(&self.directory("cpuacct", group).join("cpuacct.usage"))?;
                Ok(Usage {
                    cpu: CpuUsage { nanoseconds },
                    memory: memory_v1(&memory)?,
                    tasks,
                })
            }
            Version::V2 => {
                let stat = fs::read_to_string(memory.join("cpu.stat"))?;
                let nanoseconds = keyed(&stat, "usage_usec").unwrap_or(0) * 1000;
                Ok(Usage {
                    cpu: CpuUsage { nanoseconds },
                    memory: memory_v2(&memory)?,
                    tasks,
                })
            }
        }
    }
}

fn memory_v1(directory: &Path) -> io::Result<MemoryUsage> {
    let usage = number(&directory.join("memory.usage_in_bytes"))?;
    let limit: u64 = number(&directory.join("memory.limit_in_bytes"))?;
    let stat = fs::read_to_string(directory.join("memory.stat"))?;
    let stat_of = |key| keyed(&stat, key).unwrap_or(0);
    Ok(MemoryUsage {
        usage,
        working_set: usage.saturating_sub(stat_of("total_inactive_file")),
        rss: stat_of("total_rss"),
        // The kernel writes "no limit" as the largest page-aligned number.
        limit: (limit < i64::MAX as u64 - 4096 * 16).then_some(limit),
        page_faults: stat_of("total_pgfault"),
        major_page_faults: stat_of("total_pgmajfault"),
        swap: stat_of("total_swap"),
    })
}

fn memory_v2(directory: &Path) -> io::Result<MemoryUsage> {
    let usage = number(&directory.join("memory.current"))?;
    let stat = fs::read_to_string(directory.join("memory.stat"))?;
    let stat_of = |key| keyed(&stat, key).unwrap_or(0);
    Ok(MemoryUsage {
        usage,
        working_set: usage.saturating_sub(stat_of("inactive_file")),
        rss: stat_of("anon"),
        limit: number(&directory.join("memory.max")).ok(),
        page_faults: stat_of("pgfault"),
        major_page_faults: stat_of("pgmajfault"),
        swap: number(&directory.join("memory.swap.current")).unwrap_or(0),
    })
}

fn number<T: FromStr>(path: &Path) -> io::Result<T> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| {
        let text = format!("{}: {:?} is no number", path.display(), text.trim());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}
