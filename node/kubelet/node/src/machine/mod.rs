//! What this machine is and has.

mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use knode_linux::filewatch;

use crate::{Error, Result};

/// Facts about the machine that do not change while it is up (but for hot-plugging, which is read anew each time).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineInfo {
    /// Logical processors that are online.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Size in bytes of the file system with the kubelet's directory.
    pub ephemeral_storage: u64,
    /// Huge pages set aside: bytes by page size in bytes.
    pub huge_pages: BTreeMap<u64, u64>,
    /// Devices of plugins by resource: how many there are, and how many can be given away.
    pub devices: BTreeMap<String, (usize, usize)>,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The hardware's identity, or the machine id where there is none.
    pub system_uuid: String,
    /// Changes with each boot.
    pub boot_id: String,
    /// Kernel release.
    pub kernel: String,
    /// The distribution's name.
    pub os_image: String,
    /// Go's name of the architecture.
    pub architecture: &'static str,
}

impl MachineInfo {
    /// Looks at this machine; `root_dir` is the kubelet's directory.
    ///
    /// # Errors
    /// [`Error::Machine`] if the kernel does not tell processors, memory or the size of the file system.
    pub fn read(root_dir: &Path) -> Result<Self> {
        let machine_id = optional(&["/etc/machine-id", "/var/lib/dbus/machine-id"]);
        let uuid = optional(&["/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid"]);
        let usage = filewatch::file_system_usage(root_dir).map_err(|source| Error::Machine {
            what: root_dir.display().to_string(),
            source,
        })?;
        Ok(Self {
            cpus: parse::cpu_list(&required("/sys/devices/system/cpu/online")?),
            memory: parse::meminfo(&required("/proc/meminfo")?, "MemTotal").unwrap_or_default(),
            ephemeral_storage: usage.capacity,
            huge_pages: huge_pages(),
            devices: BTreeMap::new(),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: optional(&["/proc/sys/kernel/random/boot_id"]),
            kernel: optional(&["/proc/sys/kernel/osrelease"]),
            os_image: parse::os_name(&optional(&["/etc/os-release", "/usr/lib/os-release"])),
            architecture: architecture(),
        })
    }
}

/// Bytes of memory that can be had without swapping.
///
/// # Errors
/// [`Error::Machine`].
pub fn available_memory() -> Result<u64> {
    memory().map(|(available, _)| available)
}

/// Bytes of memory that can be had without swapping, and that there are in all.
///
/// # Errors
/// [`Error::Machine`].
pub fn memory() -> Result<(u64, u64)> {
    let text = required("/proc/meminfo")?;
    let amount = |key| parse::meminfo(&text, key).unwrap_or_default();
    Ok((amount("MemAvailable"), amount("MemTotal")))
}

/// Processes that there are, and that there may be.
///
/// # Errors
/// [`Error::Machine`].
pub fn processes() -> Result<(u64, u64)> {
    // Both limit the whole machine's.
    let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"].map(required);
    let mut most = u64::MAX;
    for limit in limits {
        most = most.min(limit?.trim().parse().unwrap_or(0));
    }
    Ok((parse::tasks(&required("/proc/loadavg")?), most))
}

/// Go's name of the architecture this program is built for.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

pub(crate) fn required(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| Error::Machine {
        what: path.to_owned(),
        source,
    })
}

/// The first of the files that can be read, trimmed; what is absent on this kind of machine is empty, as upstream.
fn optional(paths: &[&str]) -> String {
    let text = paths.iter().find_map(|path| std::fs::read_to_string(path).ok());
    text.map(|text| text.trim().trim_end_matches('\0').to_owned())
        .unwrap_or_default()
}

fn huge_pages() -> BTreeMap<u64, u64> {
    // A kernel without huge pages has no such directory.
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return BTreeMap::new();
    };
    let page = |entry: std::fs::DirEntry| {
        let size = parse::huge_page_size(entry.file_name().to_str()?)?;
        let count = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
        Some((size, size * count.trim().parse::<u64>().ok()?))
    };
    entries.flatten().filter_map(page).collect()
}
