//! A loaded program.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::assembler::Assembler;
use crate::error::{Error, Result};
use crate::syscall::{self, Attributes, BPF_TCX_INGRESS, Command};

/// A program for packets at an interface.
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
/// A program for devices in a control group.
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
/// The kernel's conntrack functions are for programs under a licence that goes with the GPL.
const LICENCE: &[u8] = b"Dual MIT/GPL\0";
/// Room for what the verifier says of a program it refuses, bytes.
const LOG: usize = 256 << 10;
/// So much of its end tells why.
const TOLD: usize = 600;

/// A program the verifier has let in. Runs where it is attached.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    fd: OwnedFd,
}

#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

// SAFETY: as the kernel's for BPF_PROG_LOAD; `Program::load` fills in addresses of what lives longer than the call.
unsafe impl Attributes for Load {}

impl Program {
    /// Loads a program that looks at packets which come in by an interface. What maps it names must live until then;
    /// the program keeps them afterwards.
    ///
    /// # Errors
    /// [`Error::Assemble`], [`Error::Load`] with the verifier's reason.
    pub fn load(name: &'static str, assembler: Assembler<'_>) -> Result<Self> {
        Self::load_as((BPF_PROG_TYPE_SCHED_CLS, BPF_TCX_INGRESS), name, assembler)
    }

    /// Loads a program that is asked when a process of a control group opens or makes a device: R1 points to the access
    /// and the kind of device, its major and its minor number, 32 bits each; R0 other than zero lets it
    /// (`struct bpf_cgroup_dev_ctx`).
    ///
    /// # Errors
    /// [`Error::Assemble`], [`Error::Load`] with the verifier's reason.
    pub fn load_for_devices(name: &'static str, assembler: Assembler<'_>) -> Result<Self> {
        Self::load_as((BPF_PROG_TYPE_CGROUP_DEVICE, 0), name, assembler)
    }

    /// `kind`: the program's type, and the hook that it is for where the kernel asks for it.
    fn load_as(kind: (u32, u32), name: &'static str, assembler: Assembler<'_>) -> Result<Self> {
        let code = assembler.finish()?;
        let mut log = Vec::new();
        let first = Self::try_load(kind, name, &code, &mut log);
        // What the verifier says costs time and memory: it is asked only when it refuses.
        let fd = first.or_else(|_| {
            log.resize(LOG, 0);
            Self::try_load(kind, name, &code, &mut log)
        });
        fd.map(|fd| Self { name, fd }).map_err(|source| Error::Load {
            name,
            log: end_of(&log),
            source,
        })
    }

    fn try_load(
        (prog_type, expected_attach_type): (u32, u32),
        name: &str,
        code: &[u64],
        log: &mut [u8],
    ) -> io::Result<OwnedFd> {
        let count = |length: usize| u32::try_from(length).map_err(io::Error::other);
        let mut load = Load {
            prog_type,
            insn_cnt: count(code.len())?,
            insns: code.as_ptr().expose_provenance() as u64,
            license: LICENCE.as_ptr().expose_provenance() as u64,
            log_level: u32::from(!log.is_empty()),
            log_size: count(log.len())?,
            log_buf: if log.is_empty() {
                0
            } else {
                log.as_mut_ptr().expose_provenance() as u64
            },
            kern_version: 0,
            prog_flags: 0,
            prog_name: syscall::name(name),
            prog_ifindex: 0,
            expected_attach_type,
        };
        syscall::open(Command::ProgLoad, &mut load)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

fn end_of(log: &[u8]) -> String {
    let length = log.iter().position(|b| *b == 0).unwrap_or(log.len());
    let said = String::from_utf8_lossy(&log[length.saturating_sub(TOLD)..length]);
    said.trim().replace('\n', "; ")
}
