//! What the machine has that a container may be given.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use knode_cri::{ContainerConfig, Device};
use knode_linux::cgroup::{Cgroups, Version};

use crate::error::{FileContext, Result};
use crate::spec::cdi::ContainerEdits;
use crate::spec::{DeviceKind, HostDevice, Machine, paths, security_context};

/// Capabilities that this process can hand on, a bit each.
pub(crate) fn own_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

/// What the machine can do.
pub(crate) fn machine(cgroups: &Cgroups) -> Machine {
    let group = Path::new("/");
    let controllers = fs::read_to_string(cgroups.directory("", group).join("cgroup.controllers"));
    Machine {
        cgroup_v2: cgroups.version() == Version::V2,
        huge_pages: match cgroups.version() {
            Version::V1 => cgroups.directory("hugetlb", group).join("cgroup.procs").exists(),
            Version::V2 => {
                controllers.is_ok_and(|text| text.split_whitespace().any(|name| name == "hugetlb"))
            }
        },
        user_namespaces: Path::new("/proc/self/ns/user").exists() && maps_memory(&release()),
    }
}

/// The kernel's version.
fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// Whether files in memory (`tmpfs`) can be shown as those of other users, which pods with users of their own need: since
/// Linux 6.3, upstream's least version for them, too.
fn maps_memory(release: &str) -> bool {
    let mut parts = release.split(|letter: char| !letter.is_ascii_digit());
    let mut number = || {
        parts
            .next()
            .and_then(|part| part.parse::<u32>().ok())
            .unwrap_or(0)
    };
    (number(), number()) >= (6, 3)
}

/// Adds the nodes that CDI devices stand for.
///
/// # Errors
/// When the host has no such device.
pub(super) fn add_nodes(edits: &[ContainerEdits], found: &mut Vec<HostDevice>) -> Result<()> {
    for node in edits.iter().flat_map(|edit| &edit.device_nodes) {
        let host = if node.host_path.is_empty() {
            &node.path
        } else {
            &node.host_path
        };
        let first = found.len();
        let device = Device {
            container_path: node.path.clone(),
            host_path: host.clone(),
            permissions: node.permissions.clone(),
        };
        named(&device, found)?;
        for added in &mut found[first..] {
            added.uid = node.uid.unwrap_or(added.uid);
            added.gid = node.gid.unwrap_or(added.gid);
            added.mode = node.file_mode.unwrap_or(added.mode);
        }
    }
    Ok(())
}

/// The devices a container is given: those its configuration names, all for a privileged one.
///
/// # Errors
/// When a device that is named does not exist.
pub(super) fn devices(config: &ContainerConfig) -> Result<Vec<HostDevice>> {
    let mut found = Vec::new();
    if security_context(config).privileged {
        collect(Path::new("/dev"), Path::new("/dev"), "rwm", &mut found)
            .file("listing devices in", "/dev")?;
    }
    for device in &config.devices {
        named(device, &mut found)?;
    }
    Ok(found)
}

fn named(device: &Device, found: &mut Vec<HostDevice>) -> Result<()> {
    let host = fs::canonicalize(&device.host_path).file("finding device", &device.host_path)?;
    let inside = paths::normal(&device.container_path);
    collect(&host, &inside, &device.permissions, found).file("reading device", &host)
}

/// A device, or all devices below a directory.
fn collect(host: &Path, inside: &Path, access: &str, found: &mut Vec<HostDevice>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(host)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        for entry in fs::read_dir(host)? {
            let name = entry?.file_name();
            // Terminals and shared memory are the container's own, and file systems are no devices.
            let own = [
                "pts",
                "shm",
                "fd",
                "mqueue",
                "console",
                ".lxc",
                ".lxd-mounts",
                ".udev",
            ];
            if !own.iter().any(|own| name == *own) {
                collect(&host.join(&name), &inside.join(&name), access, found)?;
            }
        }
        return Ok(());
    }
    let kind = if kind.is_block_device() {
        DeviceKind::Block
    } else if kind.is_char_device() {
        DeviceKind::Character
    } else {
        return Ok(());
    };
    let number = metadata.rdev();
    found.push(HostDevice {
        container_path: inside.to_path_buf(),
        kind,
        major: i64::from(rustix::fs::major(number)),
        minor: i64::from(rustix::fs::minor(number)),
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: if access.is_empty() {
            "rwm".into()
        } else {
            access.to_string()
        },
    });
    Ok(())
}

/// Makes the sources of mounts that do not exist, as upstream runtimes do.
pub(super) fn make_mount_sources(config: &ContainerConfig) -> Result<()> {
    for mount in config.mounts.iter().filter(|mount| mount.image.is_none()) {
        let path = Path::new(&mount.host_path);
        if !path.exists() {
            fs::create_dir_all(path).file("making the source of a mount", path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_files_in_memory_are_mapped_since_6_3() {
        let of = |release| maps_memory(release);
        assert!(of("6.3.0") && of("6.18.5-cloud\n") && of("7.0"));
        assert!(!of("6.1.0-56-amd64") && !of("5.15.0") && !of("6.2") && !of(""));
    }

    #[test]
    fn a_named_device_has_its_numbers() {
        let device = Device {
            container_path: "/dev/x".into(),
            host_path: "/dev/null".into(),
            permissions: "r".into(),
        };
        let config = ContainerConfig {
            devices: vec![device],
            ..Default::default()
        };
        let found = devices(&config).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].major, found[0].minor, found[0].access.as_str()),
            (1, 3, "r")
        );
        assert_eq!(found[0].container_path, Path::new("/dev/x"));
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        let device = Device {
            host_path: "/dev/none-such".into(),
            ..Default::default()
        };
        let config = ContainerConfig {
            devices: vec![device],
            ..Default::default()
        };
        assert!(devices(&config).is_err());
    }
}
