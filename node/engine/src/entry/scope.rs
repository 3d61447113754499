//! The creator's part with systemd: the container's scope is there before anything is made in it.
//!
//! A scope begins with a process, and when its last one has ended systemd takes its groups away, with what the kernel
//! has counted in them: whether it has killed for want of memory. So there is one which only waits, until the shim has
//! read that; and none of the container's limits hold for the creator.

use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use knode_dbus::systemd::SystemdError;
use knode_linux::cgroup::{Cgroups, DEFAULT_ROOT, Version};
use knode_linux::process::{fork_sibling, keep_only};
use oci_spec::OciSpecError;
use oci_spec::runtime::Spec;

use super::create::tie_to;
use crate::scope::{Scope, allowed};

/// Hierarchies of version 1 without controllers, by which systemd follows processes; libcontainer knows none of them.
const FOLLOWED: [&str; 2] = ["systemd", "unified"];

/// Why there is no scope.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScopeError {
    /// The bundle cannot be read.
    #[error("reading the bundle")]
    Bundle(#[source] OciSpecError),
    /// The kernel's list of devices cannot be read.
    #[error("reading /proc/devices")]
    Majors(#[source] io::Error),
    /// The process to begin with could not be made.
    #[error("making the first process of a scope")]
    Fork(#[source] io::Error),
    /// systemd does not make it.
    #[error("making a scope")]
    Systemd(#[from] SystemdError),
    /// It cannot be entered.
    #[error("joining the scope {unit}")]
    Join {
        unit: String,
        #[source]
        source: io::Error,
    },
}

/// The process that holds a scope; it ends when this is dropped, or when the creator is killed.
#[derive(Debug)]
pub(super) struct Held(PipeWriter);

impl Held {
    /// Makes it, a child of the shim.
    fn new(shim: u32) -> io::Result<(Self, i32)> {
        let null = OwnedFd::from(File::open("/dev/null")?);
        let (told, teller) = io::pipe()?;
        let told = OwnedFd::from(told);
        let process = fork_sibling(|| match keep_only([&null, &null, &null], &told) {
            Ok(told) => wait(shim, told),
            Err(_) => 1,
        })?;
        Ok((Self(teller), process))
    }

    /// Leaves it to the shim, which kills all that is in the container's group when that has ended.
    pub(super) fn leave(mut self) {
        // If it has been killed there is nothing to leave.
        let _ = self.0.write_all(b"l");
    }
}

/// Has systemd make the scope of what is in this bundle, and puts the calling process where systemd follows the container's.
pub(super) fn enter(scope: &Scope, bundle: &Path, shim: u32) -> Result<Held, ScopeError> {
    let devices = devices(bundle)?;
    let (held, process) = Held::new(shim).map_err(ScopeError::Fork)?;
    scope.start(process.unsigned_abs(), devices)?;
    join(scope).map_err(|source| ScopeError::Join {
        unit: scope.unit.clone(),
        source,
    })?;
    Ok(held)
}

/// The devices that libcontainer will allow.
fn devices(bundle: &Path) -> Result<Vec<(String, String)>, ScopeError> {
    let spec = Spec::load(bundle.join("config.json")).map_err(ScopeError::Bundle)?;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let rules = resources.and_then(|resources| resources.devices().as_deref());
    let majors = std::fs::read_to_string("/proc/devices").map_err(ScopeError::Majors)?;
    Ok(allowed(rules.unwrap_or_default(), &majors))
}

/// Waits until it is killed, which it is at the latest when the shim ends; ends at once if it is not left to the shim.
fn wait(shim: u32, told: OwnedFd) -> i32 {
    // Not every machine lets it; to kill it for want of memory would free nothing.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let mut word = [0];
    if tie_to(shim).is_err() || File::from(told).read_exact(&mut word).is_err() {
        return 1;
    }
    loop {
        nix::unistd::pause();
    }
}

fn join(scope: &Scope) -> io::Result<()> {
    let cgroups = Cgroups::detect(DEFAULT_ROOT.as_ref())?;
    if cgroups.version() == Version::V2 {
        // What joins the one group there is joins this one. systemd hands down no controllers that it does not know, such
        // as that of huge pages, and libcontainer none to a group that is there.
        return cgroups.create(&scope.group);
    }
    for hierarchy in FOLLOWED {
        match cgroups.write(hierarchy, &scope.group, "cgroup.procs", "0") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}
