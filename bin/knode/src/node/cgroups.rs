//! Pod cgroups for the kubelet, made through `sys/linux`.

use std::io;
use std::path::Path;

use knode_cri::LinuxContainerResources;
use knode_kubelet::PodCgroups;
use knode_linux::cgroup::{Cgroups, Version};

/// Makes the groups in the machine's hierarchy.
pub struct Kernel(pub Cgroups);

/// One file to write: controller, file, value.
type Setting = (&'static str, &'static str, String);

/// The settings for these limits, in the hierarchy's own terms.
fn settings(version: Version, limits: &LinuxContainerResources) -> Vec<Setting> {
    let mut all: Vec<Setting> = Vec::new();
    let period = if limits.cpu_period > 0 {
        limits.cpu_period
    } else {
        100_000
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
            if limits.cpu_shares > 0 {
                all.push(("", "cpu.weight", weight(limits.cpu_shares).to_string()));
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
    all
}

/// Shares of version 1 (2 to 262144) as a weight of version 2 (1 to 10000), by the linear rule of the kubelet.
fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

impl PodCgroups for Kernel {
    fn apply(&self, parent: &str, limits: &LinuxContainerResources) -> io::Result<()> {
        let group = Path::new(parent);
        self.0.create(group)?;
        settings(self.0.version(), limits)
            .iter()
            .try_for_each(|(controller, file, value)| self.0.write(controller, group, file, value))
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
            ..Default::default()
        };
        let v1 = settings(Version::V1, &limits);
        assert!(v1.contains(&("memory", "memory.limit_in_bytes", "1048576".into())));
        assert!(v1.contains(&("cpu", "cpu.cfs_quota_us", "50000".into())));
        let v2 = settings(Version::V2, &limits);
        assert!(v2.contains(&("", "cpu.max", "50000 100000".into())));
        assert!(v2.contains(&("", "cpu.weight", "39".into())));
        assert!(settings(Version::V2, &LinuxContainerResources::default()).is_empty());
    }
}
