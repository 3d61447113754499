//! What the machine must be like.

use std::path::Path;

use anyhow::{Context, bail};
use knode_kubelet_config::Settings;
use knode_linux::cgroup::{self, Cgroups, Version};

/// Refuses a machine that the configuration excludes.
///
/// # Errors
/// Swap where `failSwapOn` is true, control groups of version 1 where `failCgroupV1` is.
pub fn check(settings: &Settings) -> anyhow::Result<()> {
    if settings.fail_swap_on {
        let swaps = std::fs::read_to_string("/proc/swaps").context("read /proc/swaps")?;
        let areas = areas(&swaps);
        if !areas.is_empty() {
            bail!(
                "running with swap on is not supported: disable {} or set --fail-swap-on=false",
                areas.join(", ")
            );
        }
    }
    let groups = Cgroups::detect(Path::new(cgroup::DEFAULT_ROOT)).context("find the control groups")?;
    if settings.fail_cgroup_v1 && groups.version() == Version::V1 {
        bail!("control groups are of version 1: boot with version 2, or set failCgroupV1 to false");
    }
    Ok(())
}

/// The areas in `/proc/swaps`.
fn areas(swaps: &str) -> Vec<&str> {
    let rows = swaps.lines().skip(1);
    rows.filter_map(|row| row.split_whitespace().next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_of_swap_are_named() {
        let head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert!(areas(head).is_empty());
        let one = format!("{head}/dev/dm-1                               partition\t8388604\t\t0\t\t-2\n");
        assert_eq!(areas(&one), ["/dev/dm-1"]);
    }
}
