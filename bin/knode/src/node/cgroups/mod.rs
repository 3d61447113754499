//! The control groups that the kubelet makes: of all pods, of each class of them, and of each pod.

mod kernel;
mod slices;

use std::io;
use std::path::{Path, PathBuf};

use knode_cri::LinuxContainerResources;
use knode_dbus::systemd;
use knode_engine::CgroupDriver;
use knode_kubelet::PodCgroups;
use knode_linux::cgroup::Cgroups;

use self::kernel::Kernel;
use self::slices::Slices;

/// Who makes the groups. Whoever it is, the kubelet names them as upstream's names directories
/// (`/kubepods/burstable/pod<uid>`).
#[derive(Clone, Debug)]
pub enum Groups {
    /// The kubelet itself: they are directories of these names.
    Kernel(Kernel),
    /// systemd: they are slices.
    Systemd(Slices),
}

impl Groups {
    /// Those that this driver makes in these hierarchies.
    pub fn new(driver: CgroupDriver, cgroups: Cgroups) -> Self {
        let kernel = Kernel(cgroups);
        match driver {
            CgroupDriver::Cgroupfs => Self::Kernel(kernel),
            CgroupDriver::Systemd => Self::Systemd(Slices::new(Path::new(systemd::PRIVATE), kernel)),
        }
    }

    /// Limits a group that others made, by the name that a configuration gives it.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if it is not there; the kernel's or systemd's answer.
    pub fn limit_existing(&self, name: &str, limits: &LinuxContainerResources) -> io::Result<()> {
        match self {
            Self::Kernel(kernel) => {
                kernel.check(Path::new(name))?;
                kernel.apply(name, limits)
            }
            Self::Systemd(slices) => slices.limit_existing(name, limits),
        }
    }
}

impl PodCgroups for Groups {
    fn apply(&self, parent: &str, limits: &LinuxContainerResources) -> io::Result<()> {
        match self {
            Self::Kernel(kernel) => kernel.apply(parent, limits),
            Self::Systemd(slices) => slices.apply(parent, limits),
        }
    }

    fn remove(&self, parent: &str) -> io::Result<()> {
        match self {
            // What another driver made before this one was chosen goes, too.
            Self::Kernel(kernel) => {
                kernel.remove(parent)?;
                kernel.remove(&path(CgroupDriver::Systemd, parent))
            }
            Self::Systemd(slices) => {
                slices.remove(parent)?;
                slices.kernel().remove(parent)
            }
        }
    }

    fn path(&self, parent: &str) -> String {
        path(self.driver(), parent)
    }
}

impl Groups {
    /// Who makes them.
    fn driver(&self) -> CgroupDriver {
        match self {
            Self::Kernel(_) => CgroupDriver::Cgroupfs,
            Self::Systemd(_) => CgroupDriver::Systemd,
        }
    }
}

/// Where a group of the kubelet's is in the hierarchies. What cannot be a slice, and is refused when it is to be made,
/// keeps its name.
pub fn path(driver: CgroupDriver, group: &str) -> String {
    match driver {
        CgroupDriver::Cgroupfs => group.to_owned(),
        CgroupDriver::Systemd => slices::path(group).unwrap_or_else(|| group.to_owned()),
    }
}

/// Everywhere that a group of the kubelet's may be, whoever made it.
pub fn places(group: &str) -> [PathBuf; 2] {
    [CgroupDriver::Cgroupfs, CgroupDriver::Systemd].map(|driver| path(driver, group).into())
}

/// Removes a group of the kubelet's and what is below it, whoever made it, where nothing runs in it any more.
///
/// # Errors
/// [`io::ErrorKind::ResourceBusy`] while a process is left in it; the kernel's or systemd's answer.
pub fn remove(cgroups: &Cgroups, group: &str) -> io::Result<()> {
    let slice = PathBuf::from(path(CgroupDriver::Systemd, group));
    // systemd would kill: another kubelet's pods, perhaps.
    let idle = cgroups.exists(&slice)? && cgroups.processes(&slice)?.is_empty();
    if idle && systemd::listens(Path::new(systemd::PRIVATE)) {
        Groups::new(CgroupDriver::Systemd, cgroups.clone()).remove(group)?;
    }
    cgroups.remove(&slice)?;
    cgroups.remove(Path::new(group))
}
