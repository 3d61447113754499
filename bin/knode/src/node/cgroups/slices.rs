//! Groups as slices, made by systemd (upstream: `systemdLibcontainerManager` in `pkg/kubelet/cm`).

use std::io;
use std::path::{Path, PathBuf};

use knode_cri::LinuxContainerResources;
use knode_dbus::systemd::slice::{self, Limits, Quota, Slice};
use knode_dbus::systemd::{Systemd, SystemdError};
use knode_kubelet::PodCgroups;
use knode_linux::cgroup::{Version, cpu_weight};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::kernel::{Kernel, PERIOD, PIDS};

/// Has systemd make the groups, and sets in the hierarchies what it does not know or knows less exactly.
#[derive(Clone, Debug)]
pub struct Slices {
    socket: PathBuf,
    kernel: Kernel,
}

impl Slices {
    /// Those of the systemd at this socket.
    pub fn new(socket: &Path, kernel: Kernel) -> Self {
        Self {
            socket: socket.to_owned(),
            kernel,
        }
    }

    /// What is set in the hierarchies themselves.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// See [`super::Groups::limit_existing`].
    ///
    /// # Errors
    /// See there.
    pub fn limit_existing(&self, name: &str, limits: &LinuxContainerResources) -> io::Result<()> {
        let slice = Slice::named(Path::new(name)).map_err(invalid)?;
        self.kernel.check(slice.path())?;
        self.limit(&slice, limits)
    }

    fn limit(&self, slice: &Slice, limits: &LinuxContainerResources) -> io::Result<()> {
        let version = self.kernel.0.version();
        let held = held(version, limits);
        self.ask(|systemd| systemd.apply(slice, &held, named(version)))?;
        self.kernel.apply(&slice.path().to_string_lossy(), limits)
    }

    /// Calls block, and some wait for a job to be done: other tasks go on meanwhile.
    fn ask(&self, call: impl FnOnce(&mut Systemd) -> Result<(), SystemdError>) -> io::Result<()> {
        let ask = || call(&mut Systemd::connect(&self.socket)?);
        let several =
            Handle::try_current().is_ok_and(|own| own.runtime_flavor() != RuntimeFlavor::CurrentThread);
        let answer = if several {
            tokio::task::block_in_place(ask)
        } else {
            ask()
        };
        answer.map_err(io::Error::other)
    }
}

impl PodCgroups for Slices {
    fn apply(&self, parent: &str, limits: &LinuxContainerResources) -> io::Result<()> {
        let slice = Slice::of_group(Path::new(parent)).map_err(invalid)?;
        self.limit(&slice, limits)
    }

    fn remove(&self, parent: &str) -> io::Result<()> {
        let slice = Slice::of_group(Path::new(parent)).map_err(invalid)?;
        // Where it may have been the class of a pod is guessed: nobody need be asked of a slice that is not there.
        if self.kernel.0.exists(slice.path())? {
            self.ask(|systemd| {
                systemd.stop(slice.unit())?;
                systemd.reset_failed(slice.unit())
            })?;
        }
        // In hierarchies that systemd does not use.
        self.kernel.remove(&slice.path().to_string_lossy())
    }
}

/// Where the slice for a group is; none if it cannot be one.
pub fn path(group: &str) -> Option<String> {
    let slice = Slice::of_group(Path::new(group)).ok()?;
    Some(slice.path().to_string_lossy().into_owned())
}

fn invalid(error: slice::SliceError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

fn named(version: Version) -> slice::Version {
    match version {
        Version::V1 => slice::Version::V1,
        Version::V2 => slice::Version::V2,
    }
}

/// What systemd holds of these limits.
fn held(version: Version, limits: &LinuxContainerResources) -> Limits {
    let positive = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    let share = positive(limits.cpu_shares).map(|shares| match version {
        Version::V1 => shares,
        Version::V2 => cpu_weight(shares),
    });
    let quota = (limits.cpu_quota != 0).then(|| Quota {
        time: positive(limits.cpu_quota),
        period: positive(limits.cpu_period).unwrap_or(PERIOD),
    });
    let tasks = limits.unified.get(PIDS);
    Limits {
        share,
        quota,
        memory: positive(limits.memory_limit_in_bytes),
        // As many as they will: "max".
        tasks: tasks.map(|most| most.parse().unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_holds_what_it_knows_of() {
        let limits = LinuxContainerResources {
            cpu_shares: 1024,
            cpu_quota: 50_000,
            memory_limit_in_bytes: 1 << 20,
            unified: [(PIDS.to_owned(), "max".to_owned())].into(),
            ..Default::default()
        };
        let v1 = held(Version::V1, &limits);
        let quota = Quota {
            time: Some(50_000),
            period: 100_000,
        };
        assert_eq!((v1.share, v1.quota), (Some(1024), Some(quota)));
        assert_eq!((v1.memory, v1.tasks), (Some(1 << 20), Some(u64::MAX)));
        assert_eq!(held(Version::V2, &limits).share, Some(39));
        assert_eq!(
            held(Version::V2, &LinuxContainerResources::default()),
            Limits::default()
        );
        let unlimited = LinuxContainerResources {
            cpu_quota: -1,
            cpu_period: 20_000,
            ..Default::default()
        };
        let none = Quota {
            time: None,
            period: 20_000,
        };
        assert_eq!(held(Version::V1, &unlimited).quota, Some(none));
    }

    #[test]
    fn what_cannot_be_a_slice_is_an_error_that_names_it() {
        let nowhere = Slices::new(
            Path::new("/nowhere"),
            Kernel(
                knode_linux::cgroup::Cgroups::detect(Path::new(knode_linux::cgroup::DEFAULT_ROOT)).unwrap(),
            ),
        );
        let error = nowhere.apply("/kubepods/pod 1", &LinuxContainerResources::default());
        let error = error.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("pod 1"), "{error}");
        let error = nowhere.apply("/kubepods/pod1", &LinuxContainerResources::default());
        assert!(error.unwrap_err().to_string().contains("/nowhere"));
    }
}
