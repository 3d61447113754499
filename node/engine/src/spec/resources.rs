//! Limits: as OCI resources at the start, as control-group files for a change.

use knode_cri::LinuxContainerResources;
use oci_spec::runtime::{
    LinuxCpuBuilder, LinuxDeviceCgroup, LinuxMemoryBuilder, LinuxResources, LinuxResourcesBuilder,
};

use super::SpecError;

/// The OCI form of CRI resources.
///
/// # Errors
/// [`SpecError::Resource`] for negative values that have no meaning.
pub fn linux_resources(
    given: Option<&LinuxContainerResources>,
    devices: Vec<LinuxDeviceCgroup>,
) -> Result<LinuxResources, SpecError> {
    let mut resources = LinuxResourcesBuilder::default().devices(devices).build()?;
    let Some(given) = given else { return Ok(resources) };
    let mut cpu = LinuxCpuBuilder::default().build()?;
    cpu.set_shares(positive("cpu_shares", given.cpu_shares)?);
    cpu.set_period(positive("cpu_period", given.cpu_period)?);
    cpu.set_quota((given.cpu_quota != 0).then_some(given.cpu_quota));
    cpu.set_cpus((!given.cpuset_cpus.is_empty()).then(|| given.cpuset_cpus.clone()));
    cpu.set_mems((!given.cpuset_mems.is_empty()).then(|| given.cpuset_mems.clone()));
    resources.set_cpu(Some(cpu));
    if given.memory_limit_in_bytes != 0 {
        let mut memory = LinuxMemoryBuilder::default()
            .limit(given.memory_limit_in_bytes)
            .build()?;
        let swap = given.memory_swap_limit_in_bytes;
        memory.set_swap((swap != 0).then_some(swap));
        resources.set_memory(Some(memory));
    }
    if !given.unified.is_empty() {
        resources.set_unified(Some(given.unified.clone()));
    }
    Ok(resources)
}

fn positive(field: &'static str, value: i64) -> Result<Option<u64>, SpecError> {
    match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(SpecError::Resource { field, value }),
    }
}

/// One write into a control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupValue {
    /// Controller that has the file.
    pub controller: &'static str,
    /// File.
    pub file: String,
    /// Text to write.
    pub value: String,
}

/// Memory and swap together (version 1); only there where the kernel counts swap.
pub const SWAP_LIMIT: &str = "memory.memsw.limit_in_bytes";

/// The writes that give a running container other limits, in their order.
///
/// # Errors
/// [`SpecError::Resource`] as for [`linux_resources`].
pub fn cgroup_values(given: &LinuxContainerResources, v2: bool) -> Result<Vec<CgroupValue>, SpecError> {
    let mut values = Vec::new();
    let mut add = |controller, file: &str, value: String| {
        values.push(CgroupValue {
            controller,
            file: file.to_string(),
            value,
        });
    };
    let shares = positive("cpu_shares", given.cpu_shares)?;
    let period = positive("cpu_period", given.cpu_period)?;
    let (limit, quota) = (given.memory_limit_in_bytes, given.cpu_quota);
    if v2 {
        if let Some(shares) = shares {
            add("cpu", "cpu.weight", weight(shares).to_string());
        }
        if quota != 0 || period.is_some() {
            let quota = if quota > 0 {
                quota.to_string()
            } else {
                "max".into()
            };
            add("cpu", "cpu.max", format!("{quota} {}", period.unwrap_or(100_000)));
        }
        if limit != 0 {
            add(
                "memory",
                "memory.max",
                if limit > 0 {
                    limit.to_string()
                } else {
                    "max".into()
                },
            );
        }
        for (file, value) in &given.unified {
            add("", file, value.clone());
        }
    } else {
        if let Some(shares) = shares {
            add("cpu", "cpu.shares", shares.to_string());
        }
        if let Some(period) = period {
            add("cpu", "cpu.cfs_period_us", period.to_string());
        }
        if quota != 0 {
            add("cpu", "cpu.cfs_quota_us", quota.to_string());
        }
        if limit != 0 {
            add("memory", "memory.limit_in_bytes", limit.to_string());
        }
        if given.memory_swap_limit_in_bytes != 0 {
            add("memory", SWAP_LIMIT, given.memory_swap_limit_in_bytes.to_string());
        }
    }
    for (file, value) in [
        ("cpuset.cpus", &given.cpuset_cpus),
        ("cpuset.mems", &given.cpuset_mems),
    ] {
        if !value.is_empty() {
            add("cpuset", file, value.clone());
        }
    }
    Ok(values)
}

/// Shares (2 to 262144) as a weight (1 to 10000), as every runtime converts them.
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + ((shares - 2) * 9999) / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_writes_only_what_is_given() {
        let given = LinuxContainerResources {
            cpu_quota: 50_000,
            cpu_period: 100_000,
            ..Default::default()
        };
        let v1: Vec<_> = cgroup_values(&given, false)
            .unwrap()
            .into_iter()
            .map(|value| (value.file, value.value))
            .collect();
        assert_eq!(
            v1,
            [
                ("cpu.cfs_period_us".into(), "100000".into()),
                ("cpu.cfs_quota_us".into(), "50000".to_string())
            ]
        );
        let v2 = cgroup_values(&given, true).unwrap();
        assert_eq!(
            (v2[0].file.as_str(), v2[0].value.as_str()),
            ("cpu.max", "50000 100000")
        );
    }

    #[test]
    fn shares_become_weights() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 39, 10_000]);
    }

    #[test]
    fn negative_shares_are_refused() {
        let given = LinuxContainerResources {
            cpu_shares: -1,
            ..Default::default()
        };
        assert!(matches!(
            linux_resources(Some(&given), vec![]),
            Err(SpecError::Resource {
                field: "cpu_shares",
                ..
            })
        ));
    }
}
