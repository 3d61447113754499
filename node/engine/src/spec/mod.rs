//! OCI runtime specifications out of CRI configurations: pure functions, no file is touched here.

mod apparmor;
mod capabilities;
pub mod cdi;
pub mod cgroup;
mod devices;
mod error;
pub mod idmap;
mod mounts;
pub mod paths;
mod process;
mod resources;
mod seccomp;
pub mod selinux;
pub mod signal;
pub mod user;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use knode_cri::{ContainerConfig, LinuxContainerSecurityContext, NamespaceMode, PodSandboxConfig};
use knode_images::ImageConfig;
use oci_spec::runtime::{
    LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Process, RootBuilder, Spec,
    SpecBuilder,
};

pub use apparmor::{AppArmor, DEFAULT_PROFILE};
pub use devices::{DeviceKind, HostDevice};
pub use error::SpecError;

pub use process::{arguments, environment, exec_process};
pub use resources::{CgroupValue, SWAP_LIMIT, SWAP_MAX, cgroup_values, linux_resources};

/// Paths that a container sees empty unless its configuration says otherwise.
const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that a container cannot write unless its configuration says otherwise.
const READONLY_PATHS: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Namespaces a container joins; `None` means the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Network.
    pub net: Option<PathBuf>,
    /// System V IPC and message queues.
    pub ipc: Option<PathBuf>,
    /// Host name.
    pub uts: Option<PathBuf>,
    /// Process numbers.
    pub pid: PidNamespace,
    /// Users.
    pub user: Option<PathBuf>,
}

/// Whose processes a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PidNamespace {
    /// Its own alone.
    #[default]
    Own,
    /// All of the host.
    Host,
    /// Those of the namespace at this path.
    At(PathBuf),
}

/// Files of the sandbox that its containers see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxFiles {
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// `/etc/hostname`.
    pub hostname: PathBuf,
    /// `/etc/hosts`, unless the configuration mounts one.
    pub hosts: PathBuf,
    /// `/dev/shm`.
    pub shm: PathBuf,
}

/// All that a container's specification is made of.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// The container's configuration.
    pub config: &'a ContainerConfig,
    /// The sandbox's configuration.
    pub sandbox: &'a PodSandboxConfig,
    /// How the image wants to be run.
    pub image: &'a ImageConfig,
    /// The user, looked up in the image.
    pub user: &'a user::ResolvedUser,
    /// Mounted root file system.
    pub rootfs: &'a Path,
    /// Control group.
    pub cgroup: &'a Path,
    /// Namespaces to join.
    pub namespaces: &'a Namespaces,
    /// Files of the sandbox.
    pub files: &'a SandboxFiles,
    /// The sandbox's host name.
    pub hostname: &'a str,
    /// Sources of image mounts, in the order of the mounts that name an image.
    pub image_mounts: &'a [PathBuf],
    /// Devices of the host that the configuration names, or all for a privileged container.
    pub devices: &'a [HostDevice],
    /// Capabilities that this process may hand on, a bit each.
    pub available_capabilities: u64,
    /// What the machine can do.
    pub machine: &'a Machine,
    /// AppArmor, `None` without it.
    pub apparmor: Option<&'a AppArmor>,
    /// Its SELinux labels, `None` for none.
    pub labels: Option<&'a selinux::Labels>,
    /// A program makes it that labels all that it mounts. libcontainer would try so with file systems that are there
    /// already.
    pub by_program: bool,
    /// Changes that CDI devices stand for.
    pub cdi: &'a [cdi::ContainerEdits],
    /// Users of the pod's own, `None` for the host's.
    pub users: Option<idmap::IdMaps>,
}

/// What the machine can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Control groups are of version 2.
    pub cgroup_v2: bool,
    /// The sizes of huge pages can be limited.
    pub huge_pages: bool,
    /// The kernel makes user namespaces.
    pub user_namespaces: bool,
}

/// Makes the specification.
///
/// # Errors
/// [`SpecError`] names the part of the configuration that cannot be.
pub fn build(input: &Input<'_>) -> Result<Spec, SpecError> {
    let context = security_context(input.config);
    paths::check_texts(input.config)?;
    let mounts = mounts::mounts(input)?;
    let root = RootBuilder::default()
        .path(input.rootfs)
        .readonly(context.readonly_rootfs)
        .build()?;
    let (devices, device_rules) = devices::devices(input.devices, context.privileged);
    let resources = input
        .config
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.as_ref());
    let resources = linux_resources(resources, device_rules, input.machine)?;
    let (masked, readonly) = hidden_paths(&context);
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(input)?)
        .cgroups_path(input.cgroup)
        .resources(resources)
        .devices(devices)
        .masked_paths(masked)
        .readonly_paths(readonly)
        .rootfs_propagation(mounts.root_propagation.to_string())
        .build()?;
    if !context.privileged {
        linux.set_seccomp(seccomp::profile(&context)?);
    }
    let labels = input.labels.filter(|_| input.by_program);
    linux.set_mount_label(labels.map(|labels| labels.file.clone()));
    let mut spec = SpecBuilder::default()
        .version("1.0.2")
        .root(root)
        .mounts(mounts.list)
        .process(container_process(input, &context)?)
        .annotations(annotations(input))
        .linux(linux)
        .build()?;
    spec.set_hooks(cdi::hooks(input.cdi)?);
    // Set in the sandbox's namespace; the builder has a default.
    spec.set_hostname(None);
    Ok(spec)
}

/// The container's security settings, with upstream's defaults where there are none.
pub fn security_context(config: &ContainerConfig) -> LinuxContainerSecurityContext {
    config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.clone())
        .unwrap_or_default()
}

/// How the container wants to see processes. Without namespace options it sees its own.
pub fn pid_mode(config: &ContainerConfig) -> NamespaceMode {
    let options = security_context(config).namespace_options;
    options.unwrap_or_default().pid()
}

fn container_process(
    input: &Input<'_>,
    context: &LinuxContainerSecurityContext,
) -> Result<Process, SpecError> {
    let capabilities = capabilities::capabilities(context, input.available_capabilities)?;
    let mut process = process::process(input, context, capabilities)?;
    // What is privileged is no container to SELinux either; its files are.
    let labels = input.labels.filter(|_| !context.privileged);
    process.set_selinux_label(labels.map(|labels| labels.process.clone()));
    process.set_apparmor_profile(apparmor::profile(context, input.apparmor)?);
    Ok(process)
}

fn namespaces(input: &Input<'_>) -> Result<Vec<LinuxNamespace>, SpecError> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let given = input.namespaces;
    let mut list = vec![LinuxNamespaceBuilder::default().typ(Mount).build()?];
    let joined = [
        (User, &given.user),
        (Network, &given.net),
        (Ipc, &given.ipc),
        (Uts, &given.uts),
    ];
    for (kind, path) in joined {
        if let Some(path) = path {
            list.push(LinuxNamespaceBuilder::default().typ(kind).path(path).build()?);
        }
    }
    match &given.pid {
        PidNamespace::Own => list.push(LinuxNamespaceBuilder::default().typ(Pid).build()?),
        PidNamespace::At(path) => list.push(LinuxNamespaceBuilder::default().typ(Pid).path(path).build()?),
        PidNamespace::Host => {}
    }
    if input.machine.cgroup_v2 && !security_context(input.config).privileged {
        list.push(LinuxNamespaceBuilder::default().typ(Cgroup).build()?);
    }
    Ok(list)
}

fn hidden_paths(context: &LinuxContainerSecurityContext) -> (Vec<String>, Vec<String>) {
    if context.privileged {
        return (Vec::new(), Vec::new());
    }
    let or_default = |given: &Vec<String>, default: &[&str]| {
        if given.is_empty() {
            default.iter().map(|path| path.to_string()).collect()
        } else {
            given.clone()
        }
    };
    (
        or_default(&context.masked_paths, MASKED_PATHS),
        or_default(&context.readonly_paths, READONLY_PATHS),
    )
}

fn annotations(input: &Input<'_>) -> HashMap<String, String> {
    input.config.annotations.clone()
}
