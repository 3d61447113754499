//! Commands in running containers.
//!
//! libcontainer prepares the process, as it does a container's first one. The way to where that begins is made here:
//! libcontainer's own moves a process by `cgroup.procs`, for which the kernel waits a grace period in every hierarchy of
//! version 1, leaves user namespaces out, and takes one more process and a conversation of all three.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use knode_linux::cgroup::{Cgroups, DEFAULT_ROOT};
use libcgroups::common::CgroupConfig;
use libcontainer::container::Container;
use libcontainer::error::LibcontainerError;
use libcontainer::notify_socket::{NotifyListener, NotifySocket};
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::channel::{init_channel, main_channel};
use libcontainer::process::init::container_init_process;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::tty;
use nix::sched::CloneFlags;
use oci_spec::runtime::{
    LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxSeccomp, Process, Spec,
};

use super::create::CreateArgs;
use super::executor::ProgramExecutor;
use super::report::Report;
use crate::crash;
use crate::error::chain;

/// The kinds that the new process enters itself, by their names below `/proc/<pid>/ns`.
const OTHERS: [(&str, LinuxNamespaceType); 5] = [
    ("mnt", LinuxNamespaceType::Mount),
    ("ipc", LinuxNamespaceType::Ipc),
    ("uts", LinuxNamespaceType::Uts),
    ("net", LinuxNamespaceType::Network),
    ("cgroup", LinuxNamespaceType::Cgroup),
];

/// Starts the process in the file `process` in the container; gives its number. Whether its program could be executed
/// is told by itself.
pub(super) fn run(args: &CreateArgs, process: &Path, report: &Report) -> Result<i32, LibcontainerError> {
    crash::point("enter.begin");
    let directory = args.runtime_root.join(&args.id);
    let container = Container::load(directory.clone())?;
    if !container.can_exec() {
        return Err(LibcontainerError::IncorrectStatus(container.status()));
    }
    let init = container
        .pid()
        .ok_or_else(|| LibcontainerError::Other("the container does not run".into()))?;
    let own = Spec::load(container.bundle().join("config.json"))?;
    let text = fs::read(process).map_err(LibcontainerError::OtherIO)?;
    let process: Process = serde_json::from_slice(&text).map_err(LibcontainerError::OtherSerialization)?;
    let executor = ProgramExecutor {
        report: report.clone(),
        // A command must not escape the container's filter.
        seccomp: seccomp(&own).map(Box::new),
        keeps_orphans: args.keeps_orphans,
    };
    let namespaces = PathBuf::from(format!("/proc/{init}/ns"));
    let given = container_args(
        &directory,
        args,
        specification(own, process, &namespaces)?,
        executor,
    )?;
    go_there(&given.spec, &namespaces)?;
    crash::point("enter.there");
    let (mut sender, _told) = main_channel().map_err(other)?;
    let (_teller, mut receiver) = init_channel().map_err(other)?;
    let child = || {
        crash::point("enter.inside");
        match container_init_process(&given, &mut sender, &mut receiver) {
            Ok(()) => 0,
            Err(error) => {
                report.failed(&chain(&error));
                1
            }
        }
    };
    let made = knode_linux::process::fork_sibling(child).map_err(LibcontainerError::OtherIO);
    crash::point("enter.made");
    made
}

fn other(error: impl std::error::Error + 'static) -> LibcontainerError {
    LibcontainerError::Other(chain(&error))
}

fn seccomp(spec: &Spec) -> Option<LinuxSeccomp> {
    spec.linux().as_ref()?.seccomp().clone()
}

/// The container's specification with another process, and with nothing but what matters to one.
fn specification(own: Spec, process: Process, namespaces: &Path) -> Result<Spec, LibcontainerError> {
    let mut spec = own;
    let mut linux = LinuxBuilder::default().namespaces(entered_later(namespaces)?);
    let given = spec.linux().as_ref();
    if let Some(group) = given.and_then(|linux| linux.cgroups_path().clone()) {
        linux = linux.cgroups_path(group);
    }
    if let Some(personality) = given.and_then(|linux| linux.personality().clone()) {
        linux = linux.personality(personality);
    }
    spec.set_process(Some(process))
        .set_linux(Some(linux.build()?))
        .set_hooks(None);
    Ok(spec)
}

fn entered_later(namespaces: &Path) -> Result<Vec<LinuxNamespace>, LibcontainerError> {
    let mut list = Vec::new();
    for (name, kind) in OTHERS {
        if differs(namespaces, name)? {
            let path = namespaces.join(name);
            list.push(LinuxNamespaceBuilder::default().typ(kind).path(path).build()?);
        }
    }
    Ok(list)
}

/// Whether the container is in another namespace of that kind than this process.
fn differs(namespaces: &Path, name: &str) -> Result<bool, LibcontainerError> {
    let of = |path: PathBuf| fs::read_link(path).map_err(LibcontainerError::OtherIO);
    Ok(of(namespaces.join(name))? != of(Path::new("/proc/self/ns").join(name))?)
}

fn container_args(
    directory: &Path,
    args: &CreateArgs,
    spec: Spec,
    executor: ProgramExecutor,
) -> Result<ContainerArgs, LibcontainerError> {
    Ok(ContainerArgs {
        // It reports by the executor alone.
        container_type: ContainerType::TenantContainer { exec_notify_fd: -1 },
        syscall: SyscallType::default(),
        spec: Rc::new(spec),
        rootfs: PathBuf::from("/"),
        console_socket: console(directory, args)?,
        notify_listener: may_begin(directory)?,
        preserve_fds: 0,
        container: None,
        user_ns_config: None,
        cgroup_config: CgroupConfig {
            cgroup_path: PathBuf::new(),
            systemd_cgroup: false,
            container_name: args.id.clone(),
        },
        detached: true,
        executor: Box::new(executor),
        no_pivot: false,
        stdin: None,
        stdout: None,
        stderr: None,
        as_sibling: true,
        pid_file: None,
    })
}

/// The socket that is sent the terminal, by its number: it is open as long as this process, and closed by the next.
fn console(directory: &Path, args: &CreateArgs) -> Result<Option<i32>, LibcontainerError> {
    let Some(console) = &args.console else {
        return Ok(None);
    };
    let link = format!("tty-{}", std::process::id());
    let socket = tty::setup_console_socket(directory, console, &link)?;
    // Its path was only to be short. It goes with the container's state at the latest.
    let _ = fs::remove_file(directory.join(link));
    let number = socket.as_raw_fd();
    std::mem::forget(socket);
    Ok(Some(number))
}

/// libcontainer's processes wait for a word on a socket before they execute their program; this one has it already.
fn may_begin(directory: &Path) -> Result<NotifyListener, LibcontainerError> {
    let path = directory.join(format!("exec-{}.sock", std::process::id()));
    let listener = NotifyListener::new(&path)?;
    let told = NotifySocket::new(&path).notify_container_start();
    // It goes with the container's state at the latest.
    let _ = fs::remove_file(&path);
    told?;
    Ok(listener)
}

/// Control groups, users, limits and PID namespace: what a process has from the one that makes it.
fn go_there(spec: &Spec, namespaces: &Path) -> Result<(), LibcontainerError> {
    let linux = spec.linux().as_ref();
    if let Some(group) = linux.and_then(|linux| linux.cgroups_path().as_deref()) {
        let joined = Cgroups::detect(DEFAULT_ROOT.as_ref()).and_then(|groups| groups.join_alone(group));
        joined.map_err(|error| io_error("joining the control groups", &error))?;
    }
    // Before anything of the container can be seen by this process, nothing of this process may be seen from there.
    nix::sys::prctl::set_dumpable(false).map_err(other)?;
    let users = namespaces.join("user");
    let pids = fs::File::open(namespaces.join("pid")).map_err(LibcontainerError::OtherIO)?;
    if differs(namespaces, "user")? {
        super::users::join(&users).map_err(|error| io_error("joining the user namespace", &error))?;
    }
    let syscall = SyscallType::default().create_syscall();
    let limits = spec
        .process()
        .as_ref()
        .and_then(|process| process.rlimits().as_ref());
    for limit in limits.into_iter().flatten() {
        syscall.set_rlimit(limit).map_err(other)?;
    }
    nix::sched::setns(pids, CloneFlags::CLONE_NEWPID).map_err(other)
}

fn io_error(what: &str, error: &io::Error) -> LibcontainerError {
    LibcontainerError::Other(format!("{what}: {error}"))
}
