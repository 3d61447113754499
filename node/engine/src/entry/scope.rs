//! The creator's part with systemd: the container's scope is there before anything is made in it.
//!
//! A scope begins with a process. That is one which only waits, so that none of the container's limits hold for the
//! creator, and it ends when the container has a process of its own.

use std::io;
use std::path::Path;

use knode_dbus::systemd::SystemdError;
use knode_linux::cgroup::{Cgroups, DEFAULT_ROOT, Version};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use oci_spec::OciSpecError;
use oci_spec::runtime::Spec;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

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

/// The process that holds a scope until this is dropped.
#[derive(Debug)]
pub(super) struct Held(i32);

impl Drop for Held {
    fn drop(&mut self) {
        // It may have been killed with all else in its group.
        let _ = knode_linux::signal::send_raw(self.0, libc::SIGKILL);
        let _ = waitpid(Pid::from_raw(self.0), None);
    }
}

/// Has systemd make the scope of what is in this bundle, and puts the calling process where systemd follows the container's.
pub(super) fn enter(scope: &Scope, bundle: &Path) -> Result<Held, ScopeError> {
    let devices = devices(bundle)?;
    let held = Held(knode_linux::process::fork(wait).map_err(ScopeError::Fork)?);
    scope.start(held.0.unsigned_abs(), devices)?;
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

/// Waits until it is killed, which it is at the latest when the creator ends.
fn wait() -> i32 {
    let parent = getppid();
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err() || getppid() != parent {
        return 1;
    }
    loop {
        nix::unistd::pause();
    }
}

fn join(scope: &Scope) -> io::Result<()> {
    let cgroups = Cgroups::detect(DEFAULT_ROOT.as_ref())?;
    if cgroups.version() == Version::V2 {
        // What joins the one group there is joins this one.
        return Ok(());
    }
    for hierarchy in FOLLOWED {
        match cgroups.write(hierarchy, &scope.group, "cgroup.procs", "0") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}
