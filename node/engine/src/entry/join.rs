//! A command's way into its container's control groups.
//!
//! libcontainer writes `cgroup.procs`, for which the kernel waits a grace period in every hierarchy of version 1. A
//! process of one thread can move itself by `tasks`, which waits for nobody; then the hierarchies are hidden from
//! libcontainer, so that it has nothing to move.

use std::io;
use std::path::Path;

use knode_linux::cgroup::{Cgroups, DEFAULT_ROOT};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;

/// Moves this process into the container's groups, if it can; else libcontainer does.
pub(super) fn ahead(spec: &Spec) {
    let group = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().as_deref());
    if let Some(group) = group {
        // Standard error is the command's. Where it cannot join, libcontainer joins or says why not.
        let _ = join(group);
    }
}

fn join(group: &Path) -> io::Result<()> {
    let root = Path::new(DEFAULT_ROOT);
    if !Cgroups::detect(root)?.join_alone(group)? {
        return Ok(());
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)?;
    for entry in std::fs::read_dir(root)? {
        // What is no mount is a link, or empty.
        let _ = umount2(&entry?.path(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    Ok(())
}
