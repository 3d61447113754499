//! Groups as directories, made through `sys/linux`.

use std::io;
use std::path::Path;

use knode_cri::LinuxContainerResources;
use knode_kubelet::PodCgroups;
use knode_linux::cgroup::{Cgroups, Version, cpu_weight};

/// Makes the groups in the machine's hierarchy.
#[derive(Clone, Debug)]
pub struct Kernel(pub Cgroups);

impl Kernel {
    /// Looks whether a group is there.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if it is not.
    pub fn check(&self, group: &Path) -> io::Result<()> {
        match self.0.exists(group)? {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::NotFound, "cgroup does not exist")),
        }
    }
}

/// One file to write: controller, file, value.
type Setting = (&'static str, String, String);

/// The settings for these limits, in the hierarchy's own terms.
fn settings(version: Version, limits: &LinuxContainerResources) -> Vec<Setting> {
    let mut all: Vec<(&'static str, &'static str, String)> = Vec::new();
    let period = if limits.cpu_period > 0 {
        limits.cpu_period
    } else {
        PERIOD.cast_signed()
    };
    match version {
        Version::V1 => {
            if limits.cpu_shares > 0 {
                all.push(("cpu", "cpu.shares", limits.cpu_shares.to_string()));
            }
            if limits.cpu_quota != 0 {
                all.push(("cpu", "cpu.cfs_period_us", period.to_string()));
                all.push(("cpu", "cpu.cfs_quota_us", limits.cpu_quota.to_string()));
            }
            if limits.memory_limit_in_bytes > 0 {
                all.push((
                    "memory",
                    "memory.limit_in_bytes",
                    limits.memory_limit_in_bytes.to_string(),
                ));
            }
        }
        Version::V2 => {
            if let Ok(shares @ 1..) = u64::try_from(limits.cpu_shares) {
                all.push(("", "cpu.weight", cpu_weight(shares).to_string()));
            }
            if limits.cpu_quota != 0 {
                let quota = if limits.cpu_quota < 0 {
                    "max".into()
                } else {
                    limits.cpu_quota.to_string()
                };
                all.push(("", "cpu.max", format!("{quota} {period}")));
            }
            if limits.memory_limit_in_bytes > 0 {
                all.push(("", "memory.max", limits.memory_limit_in_bytes.to_string()));
            }
        }
    }
    let own = all
        .into_iter()
        .map(|(controller, file, value)| (controller, file.to_owned(), value));
    own.chain(others(version, limits)).collect()
}

/// Limits of processes and of huge pages, which both versions have under the same names.
fn others(version: Version, limits: &LinuxContainerResources) -> impl Iterator<Item = Setting> {
    let end = match version {
        Version::V1 => "limit_in_bytes",
        Version::V2 => "max",
    };
    let pages = limits.hugepage_limits.iter().map(move |limit| {
        let file = format!("hugetlb.{}.{end}", limit.page_size);
        (HUGE_PAGES, file, limit.limit.to_string())
    });
    let pids = limits.unified.get(PIDS);
    pids.map(|most| ("pids", PIDS.to_owned(), most.clone()))
        .into_iter()
        .chain(pages)
}

/// A controller that not every kernel has.
const HUGE_PAGES: &str = "hugetlb";
/// The file, and the name in `unified`, of how many processes there may be.
pub const PIDS: &str = "pids.max";
/// Microseconds in which a quota of the processors is had, where nothing else is said.
pub const PERIOD: u64 = 100_000;

impl PodCgroups for Kernel {
    fn apply(&self, parent: &str, limits: &LinuxContainerResources) -> io::Result<()> {
        let group = Path::new(parent);
        self.0.create(group)?;
        settings(self.0.version(), limits)
            .iter()
            .try_for_each(|(controller, file, value)| {
                match self.0.write(controller, group, file, value) {
                    // As upstream: without the controller there are no limits of huge pages.
                    Err(error) if *controller == HUGE_PAGES && error.kind() == io::ErrorKind::NotFound => {
                        Ok(())
                    }
                    other => other,
                }
            })
    }

    fn remove(&self, parent: &str) -> io::Result<()> {
        self.0.remove(Path::new(parent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_both_versions() {
        let limits = LinuxContainerResources {
            cpu_shares: 1024,
            cpu_quota: 50_000,
            memory_limit_in_bytes: 1 << 20,
            hugepage_limits: vec![knode_cri::HugepageLimit {
                page_size: "2MB".into(),
                limit: 0,
            }],
            unified: [(PIDS.to_owned(), "64".to_owned())].into(),
            ..Default::default()
        };
        let v1 = settings(Version::V1, &limits);
        assert!(v1.contains(&("memory", "memory.limit_in_bytes".into(), "1048576".into())));
        assert!(v1.contains(&("cpu", "cpu.cfs_quota_us".into(), "50000".into())));
        assert!(v1.contains(&("hugetlb", "hugetlb.2MB.limit_in_bytes".into(), "0".into())));
        assert!(v1.contains(&("pids", "pids.max".into(), "64".into())));
        let v2 = settings(Version::V2, &limits);
        assert!(v2.contains(&("hugetlb", "hugetlb.2MB.max".into(), "0".into())));
        assert!(v2.contains(&("pids", "pids.max".into(), "64".into())));
        assert!(v2.contains(&("", "cpu.max".into(), "50000 100000".into())));
        assert!(v2.contains(&("", "cpu.weight".into(), "39".into())));
        assert!(settings(Version::V2, &LinuxContainerResources::default()).is_empty());
    }
}
