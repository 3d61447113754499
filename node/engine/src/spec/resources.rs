//! Limits: as OCI resources at the start, as control-group files for a change.

use knode_cri::LinuxContainerResources;
use knode_linux::cgroup::container_weight;
use oci_spec::runtime::{
    LinuxCpuBuilder, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxHugepageLimitBuilder, LinuxMemoryBuilder,
    LinuxResources, LinuxResourcesBuilder,
};

use super::{Machine, SpecError};

/// The OCI form of CRI resources.
///
/// # Errors
/// [`SpecError::Resource`] for negative values that have no meaning.
pub fn linux_resources(
    given: Option<&LinuxContainerResources>,
    devices: Vec<LinuxDeviceCgroup>,
    machine: &Machine,
) -> Result<LinuxResources, SpecError> {
    let mut resources = LinuxResourcesBuilder::default().devices(devices).build()?;
    let Some(given) = given else { return Ok(resources) };
    check(given, machine.cgroup_v2)?;
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
    // Where the kernel does not count them limits are passed over, as upstream does.
    if machine.huge_pages && !given.hugepage_limits.is_empty() {
        let limits = given.hugepage_limits.iter().map(huge_pages);
        resources.set_hugepage_limits(Some(limits.collect::<Result<_, _>>()?));
    }
    if !given.unified.is_empty() {
        resources.set_unified(Some(given.unified.clone()));
    }
    Ok(resources)
}

fn huge_pages(limit: &knode_cri::HugepageLimit) -> Result<LinuxHugepageLimit, SpecError> {
    Ok(LinuxHugepageLimitBuilder::default()
        .page_size(limit.page_size.clone())
        .limit(i64::try_from(limit.limit).unwrap_or(i64::MAX))
        .build()?)
}

/// Names that become names of files.
fn check(given: &LinuxContainerResources, v2: bool) -> Result<(), SpecError> {
    if !given.unified.is_empty() && !v2 {
        return Err(SpecError::Unsupported(
            "unified settings without version 2 control groups".into(),
        ));
    }
    let plain = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    if let Some(key) = given
        .unified
        .keys()
        .find(|key| !plain(key) || key.starts_with("cgroup."))
    {
        return Err(SpecError::Unified(key.chars().take(100).collect()));
    }
    match given
        .hugepage_limits
        .iter()
        .find(|limit| !plain(&limit.page_size))
    {
        Some(limit) => Err(SpecError::HugePage(limit.page_size.chars().take(100).collect())),
        None => Ok(()),
    }
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

/// Swap alone (version 2); only there where the kernel counts swap.
pub const SWAP_MAX: &str = "memory.swap.max";

/// Period of the CPU's quota where none is given, in microseconds; the kernel's own.
const CPU_PERIOD: u64 = 100_000;

/// The writes that give a running container other limits, in their order.
///
/// # Errors
/// [`SpecError::Resource`] as for [`linux_resources`].
pub fn cgroup_values(
    given: &LinuxContainerResources,
    machine: &Machine,
) -> Result<Vec<CgroupValue>, SpecError> {
    let v2 = machine.cgroup_v2;
    check(given, v2)?;
    let mut values = if v2 { values_v2(given)? } else { values_v1(given)? };
    if machine.huge_pages {
        let end = if v2 { "max" } else { "limit_in_bytes" };
        values.extend(given.hugepage_limits.iter().map(|limit| {
            let file = format!("hugetlb.{}.{end}", limit.page_size);
            write("hugetlb", file, limit.limit)
        }));
    }
    let sets = [
        ("cpuset.cpus", &given.cpuset_cpus),
        ("cpuset.mems", &given.cpuset_mems),
    ];
    let sets = sets.into_iter().filter(|(_, value)| !value.is_empty());
    values.extend(sets.map(|(file, value)| write("cpuset", file, value)));
    Ok(values)
}

fn write(controller: &'static str, file: impl Into<String>, value: impl ToString) -> CgroupValue {
    CgroupValue {
        controller,
        file: file.into(),
        value: value.to_string(),
    }
}

fn values_v2(given: &LinuxContainerResources) -> Result<Vec<CgroupValue>, SpecError> {
    let or_max = |limit: i64| match limit {
        1.. => limit.to_string(),
        _ => "max".to_owned(),
    };
    let shares = positive("cpu_shares", given.cpu_shares)?;
    let period = positive("cpu_period", given.cpu_period)?;
    let (limit, quota) = (given.memory_limit_in_bytes, given.cpu_quota);
    let mut values = Vec::new();
    values.extend(shares.map(|shares| write("cpu", "cpu.weight", container_weight(shares))));
    if quota != 0 || period.is_some() {
        let period = period.unwrap_or(CPU_PERIOD);
        values.push(write("cpu", "cpu.max", format!("{} {period}", or_max(quota))));
    }
    if limit != 0 {
        values.push(write("memory", "memory.max", or_max(limit)));
    }
    values.extend(swap_v2(limit, given.memory_swap_limit_in_bytes)?);
    let unified = given.unified.iter();
    values.extend(unified.map(|(file, value)| write("", file, value)));
    Ok(values)
}

/// Version 2 counts swap by itself, CRI with the memory.
fn swap_v2(limit: i64, both: i64) -> Result<Option<CgroupValue>, SpecError> {
    if both < 0 {
        return Ok(Some(write("memory", SWAP_MAX, "max")));
    }
    if both == 0 || limit <= 0 {
        return Ok(None);
    }
    let only = both.checked_sub(limit).filter(|only| *only >= 0);
    let only = only.ok_or(SpecError::Resource {
        field: "memory_swap_limit_in_bytes",
        value: both,
    })?;
    Ok(Some(write("memory", SWAP_MAX, only)))
}

fn values_v1(given: &LinuxContainerResources) -> Result<Vec<CgroupValue>, SpecError> {
    let shares = positive("cpu_shares", given.cpu_shares)?;
    let period = positive("cpu_period", given.cpu_period)?;
    let rest = [
        ("cpu", "cpu.cfs_quota_us", given.cpu_quota),
        ("memory", "memory.limit_in_bytes", given.memory_limit_in_bytes),
        ("memory", SWAP_LIMIT, given.memory_swap_limit_in_bytes),
    ];
    let mut values = Vec::new();
    values.extend(shares.map(|shares| write("cpu", "cpu.shares", shares)));
    values.extend(period.map(|period| write("cpu", "cpu.cfs_period_us", period)));
    let rest = rest.into_iter().filter(|(.., value)| *value != 0);
    values.extend(rest.map(|(controller, file, value)| write(controller, file, value)));
    Ok(values)
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
        let v1: Vec<_> = cgroup_values(&given, &Machine::default())
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
        let machine = Machine {
            cgroup_v2: true,
            ..Default::default()
        };
        let v2 = cgroup_values(&given, &machine).unwrap();
        assert_eq!(
            (v2[0].file.as_str(), v2[0].value.as_str()),
            ("cpu.max", "50000 100000")
        );
    }

    #[test]
    fn negative_shares_are_refused() {
        let given = LinuxContainerResources {
            cpu_shares: -1,
            ..Default::default()
        };
        assert!(matches!(
            linux_resources(Some(&given), vec![], &Machine::default()),
            Err(SpecError::Resource {
                field: "cpu_shares",
                ..
            })
        ));
    }
}
