//! A program at an interface.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use crate::error::{Error, Result};
use crate::program::Program;
use crate::syscall::{self, Attributes, BPF_TCX_INGRESS, Command};

/// A program that sees what comes in by an interface, until this is dropped or the interface is gone.
#[derive(Debug)]
pub struct Link {
    _fd: OwnedFd,
}

#[repr(C)]
struct Create {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative_fd: u32,
    padding: u32,
    expected_revision: u64,
}

// SAFETY: as the kernel's for BPF_LINK_CREATE with tcx, without addresses.
unsafe impl Attributes for Create {}

impl Link {
    /// Hooks the program behind those that are there already. The interface is of the calling thread's network
    /// namespace.
    ///
    /// # Errors
    /// [`Error::Attach`], see [`Error::is_gone`].
    pub fn ingress(program: &Program, interface: u32) -> Result<Self> {
        let mut create = Create {
            prog_fd: program.fd().as_raw_fd().cast_unsigned(),
            target_ifindex: interface,
            attach_type: BPF_TCX_INGRESS,
            flags: 0,
            relative_fd: 0,
            padding: 0,
            expected_revision: 0,
        };
        syscall::open(Command::LinkCreate, &mut create)
            .map(|fd| Self { _fd: fd })
            .map_err(|source| Error::Attach {
                name: program.name(),
                interface,
                source,
            })
    }
}
