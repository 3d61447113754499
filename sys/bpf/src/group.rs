//! A program at a control group of version 2.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::error::{Error, Result};
use crate::program::Program;
use crate::syscall::{self, Attributes, Command};

/// Hook for devices.
const BPF_CGROUP_DEVICE: u32 = 6;
/// Beside other programs: a device is let where all of them let it.
const BPF_F_ALLOW_MULTI: u32 = 2;

#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

// SAFETY: as the kernel's for BPF_PROG_ATTACH, without addresses.
unsafe impl Attributes for Attach {}

/// Has the kernel ask `program` about every device that a process of the control group in this directory, or of one
/// below, opens or makes. It stays until the group is removed.
///
/// # Errors
/// [`Error::Group`].
pub fn guard_devices(program: &Program, group: &Path) -> Result<()> {
    let refused = |source| Error::Group {
        name: program.name(),
        group: group.to_path_buf(),
        source,
    };
    let directory = File::open(group).map_err(refused)?;
    let mut attach = Attach {
        target_fd: directory.as_raw_fd().cast_unsigned(),
        attach_bpf_fd: program.fd().as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    syscall::run(Command::ProgAttach, &mut attach).map_err(refused)
}
