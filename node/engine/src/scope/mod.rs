//! Containers as scopes of systemd's, for pods whose parent is a slice.
//!
//! systemd is asked for the unit, with the limits that it would otherwise reset; the groups themselves are still made,
//! joined and limited by their path, so that everything else works as without systemd. Properties are those that runc
//! sets.

mod devices;

use std::path::{Path, PathBuf};

use knode_cri::LinuxContainerResources;
use knode_dbus::systemd::{Property, Systemd, SystemdError};
use knode_linux::cgroup::container_weight;
use serde::{Deserialize, Serialize};

pub(crate) use devices::allowed;

/// A container's scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// systemd's socket.
    pub systemd: PathBuf,
    /// Name of the unit.
    pub unit: String,
    /// Name of the slice that it lies in.
    pub slice: String,
    /// Its control group.
    pub group: PathBuf,
    /// What it may use.
    pub limits: Limits,
}

/// Limits as systemd takes them; `u64::MAX` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Version 2 has other names.
    v2: bool,
    /// Bytes.
    memory: u64,
    /// Shares of version 1, weight of version 2.
    cpu: u64,
    /// Microseconds a second.
    cpu_quota: u64,
    /// Microseconds.
    cpu_period: u64,
}

/// Period of the CPU's quota where none is given, in microseconds; the kernel's own.
const CPU_PERIOD: u64 = 100_000;
/// systemd counts quotas in hundredths of a processor: microseconds a second.
const PER_CENT: u64 = 10_000;

impl Limits {
    /// Those of a container's resources; what they do not name is not limited.
    pub fn of(given: Option<&LinuxContainerResources>, v2: bool) -> Self {
        let none = LinuxContainerResources::default();
        let given = given.unwrap_or(&none);
        let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
        let period = positive(given.cpu_period);
        let shares = positive(given.cpu_shares);
        let weigh = |shares| {
            if v2 {
                container_weight(shares)
            } else {
                shares.clamp(2, 262_144)
            }
        };
        let quota = positive(given.cpu_quota)
            .map(|quota| quota.saturating_mul(1_000_000) / period.unwrap_or(CPU_PERIOD))
            .and_then(|quota| quota.max(1).checked_next_multiple_of(PER_CENT));
        Self {
            v2,
            memory: positive(given.memory_limit_in_bytes).unwrap_or(u64::MAX),
            cpu: shares.map_or(u64::MAX, weigh),
            cpu_quota: quota.unwrap_or(u64::MAX),
            cpu_period: period.unwrap_or(u64::MAX),
        }
    }

    /// All of them, because systemd writes all settings of a controller when one changes.
    fn properties(&self) -> Vec<Property> {
        let (memory, cpu) = match self.v2 {
            true => ("MemoryMax", "CPUWeight"),
            false => ("MemoryLimit", "CPUShares"),
        };
        vec![
            Property::number(memory, self.memory),
            Property::number(cpu, self.cpu),
            Property::number("CPUQuotaPerSecUSec", self.cpu_quota),
            Property::number("CPUQuotaPeriodUSec", self.cpu_period),
            // Without it, it would be systemd's default.
            Property::number("TasksMax", u64::MAX),
        ]
    }
}

impl Scope {
    /// Has systemd make it, with one process and these devices.
    ///
    /// # Errors
    /// Those of [`Systemd`].
    pub(crate) fn start(&self, process: u32, devices: Vec<(String, String)>) -> Result<(), SystemdError> {
        let mut properties = self.properties(process);
        properties.push(Property::text("DevicePolicy", "strict"));
        properties.push(Property::pairs("DeviceAllow", devices));
        match Systemd::connect(&self.systemd)?.start_transient(&self.unit, &properties) {
            // What a start that was cut off has left.
            Err(SystemdError::UnitExists { .. }) => {
                forget(&self.systemd, &self.unit)?;
                Systemd::connect(&self.systemd)?.start_transient(&self.unit, &properties)
            }
            other => other,
        }
    }

    fn properties(&self, process: u32) -> Vec<Property> {
        let io = if self.limits.v2 {
            "IOAccounting"
        } else {
            "BlockIOAccounting"
        };
        let mut properties = vec![
            Property::text("Description", format!("knode container {}", self.unit)),
            Property::text("Slice", self.slice.clone()),
            // One that has failed goes by itself too.
            Property::text("CollectMode", "inactive-or-failed"),
            Property::pids(vec![process]),
            Property::bool("Delegate", true),
            Property::bool("DefaultDependencies", false),
        ];
        let counted = ["MemoryAccounting", "CPUAccounting", "TasksAccounting", io];
        properties.extend(counted.map(|name| Property::bool(name, true)));
        properties.extend(self.limits.properties());
        properties
    }

    /// Tells systemd of other limits; when this returns it has written them.
    ///
    /// # Errors
    /// Those of [`Systemd`].
    pub(crate) fn limit(&self) -> Result<(), SystemdError> {
        let mut systemd = Systemd::connect(&self.systemd)?;
        systemd.set_properties(&self.unit, &self.limits.properties())?;
        // It writes them after its answer, but before it hears of anything else.
        systemd.reset_failed(&self.unit)
    }
}

/// Has systemd forget a scope whose processes are gone. Where no systemd runs, and for one that it does not know, there
/// is nothing to forget.
///
/// # Errors
/// Those of [`Systemd`].
pub(crate) fn forget(systemd: &Path, unit: &str) -> Result<(), SystemdError> {
    if !knode_dbus::systemd::listens(systemd) {
        return Ok(());
    }
    let mut systemd = Systemd::connect(systemd)?;
    systemd.stop(unit)?;
    systemd.reset_failed(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> LinuxContainerResources {
        LinuxContainerResources {
            cpu_period: 50_000,
            cpu_quota: 12_510,
            cpu_shares: 512,
            memory_limit_in_bytes: 64 << 20,
            ..Default::default()
        }
    }

    fn number(properties: &[Property], name: &str) -> Option<u64> {
        let found = properties.iter().find(|property| property.name == name)?;
        match found.value {
            knode_dbus::systemd::Value::Number(number) => Some(number),
            _ => None,
        }
    }

    #[test]
    fn limits_are_named_as_the_version_has_them() {
        let v1 = Limits::of(Some(&given()), false).properties();
        assert_eq!(number(&v1, "MemoryLimit"), Some(64 << 20));
        assert_eq!(number(&v1, "CPUShares"), Some(512));
        // A quarter of a processor and a bit is 26 hundredths.
        assert_eq!(number(&v1, "CPUQuotaPerSecUSec"), Some(260_000));
        assert_eq!(number(&v1, "CPUQuotaPeriodUSec"), Some(50_000));
        let v2 = Limits::of(Some(&given()), true).properties();
        assert_eq!(number(&v2, "MemoryMax"), Some(64 << 20));
        assert_eq!(number(&v2, "CPUWeight"), Some(container_weight(512)));
        assert_eq!(number(&v2, "MemoryLimit"), None);
    }

    #[test]
    fn what_is_not_given_is_not_limited() {
        let unlimited = LinuxContainerResources {
            cpu_quota: -1,
            memory_limit_in_bytes: -1,
            ..Default::default()
        };
        for given in [None, Some(&unlimited)] {
            let properties = Limits::of(given, false).properties();
            for name in ["MemoryLimit", "CPUShares", "CPUQuotaPerSecUSec", "TasksMax"] {
                assert_eq!(number(&properties, name), Some(u64::MAX), "{name} of {given:?}");
            }
        }
    }
}
