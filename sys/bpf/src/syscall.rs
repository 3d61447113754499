//! `bpf(2)`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Commands of `bpf(2)` in use (`enum bpf_cmd` of the kernel's `uapi/linux/bpf.h`).
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum Command {
    MapCreate = 0,
    MapUpdate = 2,
    MapDelete = 3,
    ProgLoad = 5,
    ProgAttach = 8,
    LinkCreate = 28,
}

/// Hook for what comes in by an interface (`tcx`), since Linux 6.6.
pub(crate) const BPF_TCX_INGRESS: u32 = 46;

/// A command's part of `union bpf_attr`. The kernel takes what is left out behind it for zero.
///
/// # Safety
/// The type must be `repr(C)` without padding, laid out as the kernel's for the command it goes with, and every
/// address in it must be good for the length that goes with it while the call lasts.
pub(crate) unsafe trait Attributes {}

fn call<A: Attributes>(command: Command, attributes: &mut A) -> io::Result<i64> {
    // SAFETY: the pointer is good for as many bytes as are told, and `Attributes` promises the rest.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32,
            std::ptr::from_mut(attributes),
            std::mem::size_of::<A>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Runs a command that answers with nothing.
pub(crate) fn run<A: Attributes>(command: Command, attributes: &mut A) -> io::Result<()> {
    call(command, attributes).map(drop)
}

/// Runs a command that answers with a new descriptor, closed in children.
pub(crate) fn open<A: Attributes>(command: Command, attributes: &mut A) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A name as the kernel keeps it: 15 bytes at most, ended by zero.
pub(crate) fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    name.iter_mut()
        .zip(text.bytes().take(15))
        .for_each(|(to, from)| *to = from);
    name
}
