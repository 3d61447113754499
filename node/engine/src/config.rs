//! What an engine is given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use knode_images::ImageStore;

use crate::net::PodNetwork;
use crate::runtime::Runtimes;

/// Who makes the control groups of pods' containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// This process, by files. Parents of pods are paths.
    #[default]
    Cgroupfs,
    /// systemd, for pods whose parent is a slice.
    Systemd,
}

/// Configuration of an engine.
#[derive(Clone)]
pub struct EngineConfig {
    /// Directory of the engine's own for records that outlive a reboot.
    pub data_dir: PathBuf,
    /// Directory of the engine's own for sockets and namespaces, on a file system that a reboot clears.
    pub run_dir: PathBuf,
    /// Mount point of the control groups.
    pub cgroup_root: PathBuf,
    /// Who makes control groups.
    pub cgroup_driver: CgroupDriver,
    /// Socket of systemd's manager.
    pub systemd: PathBuf,
    /// Program that has [`crate::entry::dispatch`] in its `main`; normally this very program.
    pub self_exe: PathBuf,
    /// Images and snapshots.
    pub images: ImageStore,
    /// The pod network.
    pub network: Arc<dyn PodNetwork>,
    /// OCI runtimes by runtime handler.
    pub runtimes: Runtimes,
    /// Label processes and files of containers where the kernel has SELinux.
    pub selinux: bool,
    /// Where the streaming server listens; port 0 takes a free one. It must be a loopback address.
    pub streaming: SocketAddr,
}

impl EngineConfig {
    /// A configuration with the usual settings for everything that is not named.
    pub fn new(
        data_dir: impl Into<PathBuf>,
        run_dir: impl Into<PathBuf>,
        images: ImageStore,
        network: Arc<dyn PodNetwork>,
    ) -> Self {
        Self {
            data_dir: data_dir.into(),
            run_dir: run_dir.into(),
            cgroup_root: knode_linux::cgroup::DEFAULT_ROOT.into(),
            cgroup_driver: CgroupDriver::default(),
            systemd: knode_dbus::systemd::PRIVATE.into(),
            self_exe: "/proc/self/exe".into(),
            images,
            network,
            runtimes: Runtimes::default(),
            selinux: false,
            streaming: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}
