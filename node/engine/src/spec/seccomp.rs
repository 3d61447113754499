//! Seccomp filters: none, the runtime's default, or a file.

use knode_cri::LinuxContainerSecurityContext;
use knode_cri::security_profile::ProfileType;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use super::SpecError;

/// Calls that every container may make, whatever their arguments. The set is that of containerd's and
/// Docker's default profile.
const ALLOWED: &str = include_str!("seccomp_allowed.txt");

/// Calls that a capability opens.
const BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    (
        "CAP_SYS_MODULE",
        &["delete_module", "init_module", "finit_module"],
    ),
    ("CAP_SYS_PACCT", &["acct"]),
    (
        "CAP_SYS_PTRACE",
        &[
            "kcmp",
            "pidfd_getfd",
            "process_madvise",
            "process_vm_readv",
            "process_vm_writev",
            "ptrace",
        ],
    ),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    (
        "CAP_SYS_TIME",
        &["settimeofday", "stime", "clock_settime", "clock_settime64"],
    ),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    (
        "CAP_SYS_NICE",
        &[
            "get_mempolicy",
            "mbind",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

/// Largest profile that is read, in bytes.
const MAX_PROFILE: u64 = 8 * 1024 * 1024;

/// Flags of `clone(2)` that make namespaces.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;

/// The filter that a container's settings ask for. Nothing said is unconfined, an empty profile is the
/// default one.
pub(super) fn profile(context: &LinuxContainerSecurityContext) -> Result<Option<LinuxSeccomp>, SpecError> {
    let Some(profile) = &context.seccomp else {
        return Ok(None);
    };
    match profile.profile_type() {
        ProfileType::Unconfined => Ok(None),
        ProfileType::RuntimeDefault => Ok(Some(runtime_default(&granted(context))?)),
        ProfileType::Localhost => load(&profile.localhost_ref).map(Some),
    }
}

fn load(path: &str) -> Result<LinuxSeccomp, SpecError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| SpecError::Seccomp {
        path: path.into(),
        source,
    };
    // A pipe or a device in its place must not hold us up.
    let metadata = std::fs::metadata(path).map_err(|error| failed(error.into()))?;
    if !metadata.is_file() || metadata.len() > MAX_PROFILE {
        return Err(failed("not a file of a profile's size".into()));
    }
    let text = std::fs::read(path).map_err(|error| failed(error.into()))?;
    serde_json::from_slice(&text).map_err(|error| failed(error.into()))
}

/// Capabilities beyond the default ones that open calls; the default set opens `chroot` alone.
fn granted(context: &LinuxContainerSecurityContext) -> Vec<&'static str> {
    let asked = context.capabilities.clone().unwrap_or_default();
    let has = |list: &[String], name: &str| {
        list.iter().any(|other| {
            let other = other.to_uppercase();
            other == "ALL" || other == name || name.strip_prefix("CAP_") == Some(other.as_str())
        })
    };
    let of = |name: &str| {
        if name == "CAP_SYS_CHROOT" {
            !has(&asked.drop_capabilities, name) || has(&asked.add_capabilities, name)
        } else {
            has(&asked.add_capabilities, name)
        }
    };
    BY_CAPABILITY
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| of(name))
        .collect()
}

fn runtime_default(capabilities: &[&str]) -> Result<LinuxSeccomp, SpecError> {
    let mut calls = vec![allow(ALLOWED.split_whitespace(), &[])?];
    for (name, opened) in BY_CAPABILITY {
        if capabilities.contains(name) {
            calls.push(allow(opened.iter().copied(), &[])?);
        }
    }
    for value in [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff] {
        calls.push(allow(
            ["personality"],
            &[arg(0, value, None, LinuxSeccompOperator::ScmpCmpEq)?],
        )?);
    }
    // AF_VSOCK leaves the machine's own network namespaces.
    calls.push(allow(
        ["socket"],
        &[arg(0, 40, None, LinuxSeccompOperator::ScmpCmpNe)?],
    )?);
    if !capabilities.contains(&"CAP_SYS_ADMIN") {
        let without = arg(
            0,
            CLONE_NAMESPACES,
            Some(0),
            LinuxSeccompOperator::ScmpCmpMaskedEq,
        )?;
        calls.push(allow(["clone"], &[without])?);
        // Its flags are behind a pointer: ENOSYS makes programs use clone instead.
        let clone3 = LinuxSyscallBuilder::default()
            .names(vec!["clone3".to_string()])
            .action(LinuxSeccompAction::ScmpActErrno)
            .errno_ret(libc::ENOSYS as u32)
            .build()?;
        calls.push(clone3);
    }
    Ok(LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .architectures(architectures())
        .syscalls(calls)
        .build()?)
}

fn allow<'a>(
    names: impl IntoIterator<Item = &'a str>,
    args: &[LinuxSeccompArg],
) -> Result<LinuxSyscall, SpecError> {
    let names: Vec<String> = names.into_iter().map(str::to_string).collect();
    let mut builder = LinuxSyscallBuilder::default()
        .names(names)
        .action(LinuxSeccompAction::ScmpActAllow);
    if !args.is_empty() {
        builder = builder.args(args.to_vec());
    }
    Ok(builder.build()?)
}

/// A condition on argument `index`. For a masked comparison the mask comes first, as in the specification.
fn arg(
    index: usize,
    value: u64,
    masked: Option<u64>,
    op: LinuxSeccompOperator,
) -> Result<LinuxSeccompArg, SpecError> {
    let mut builder = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
    if let Some(masked) = masked {
        builder = builder.value_two(masked);
    }
    Ok(builder.build()?)
}

fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "x86_64") {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    } else if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        vec![Arch::ScmpArchNative]
    }
}
