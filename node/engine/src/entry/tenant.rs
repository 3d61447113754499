//! Commands in a container with users of its own. libcontainer's own way into a running container leaves its user
//! namespace out, so the specification that it goes by is made here, with all of the container's namespaces.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcgroups::common::CgroupConfig;
use libcontainer::container::Container;
use libcontainer::error::LibcontainerError;
use libcontainer::notify_socket::{NotifyListener, NotifySocket};
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::container_main_process::container_main_process;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::tty;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Process, Spec};

use super::args::CreateArgs;
use super::executor::ProgramExecutor;
use super::stage;

/// All kinds, by their names below `/proc/<pid>/ns`.
const KINDS: [(&str, LinuxNamespaceType); 7] = [
    ("user", LinuxNamespaceType::User),
    ("mnt", LinuxNamespaceType::Mount),
    ("ipc", LinuxNamespaceType::Ipc),
    ("uts", LinuxNamespaceType::Uts),
    ("net", LinuxNamespaceType::Network),
    ("pid", LinuxNamespaceType::Pid),
    ("cgroup", LinuxNamespaceType::Cgroup),
];

/// True for a container that was prepared because it has users of its own; `state` is libcontainer's of it.
pub(super) fn is_needed(state: &Path) -> bool {
    let staged = |container: Container| {
        let bundle = container.bundle().parent();
        bundle.is_some_and(|bundle| bundle.join(stage::FILE).exists())
    };
    Container::load(state.to_path_buf()).is_ok_and(staged)
}

/// Runs the process in the file `process` in the container; gives its number.
pub(super) fn run(
    args: &CreateArgs,
    process: &Path,
    executor: ProgramExecutor,
) -> Result<i32, LibcontainerError> {
    let directory = args.runtime_root.join(&args.id);
    let container = Container::load(directory.clone())?;
    let init = container
        .pid()
        .ok_or_else(|| LibcontainerError::Other("the container does not run".into()))?;
    let spec = specification(container.bundle(), process, init.as_raw())?;
    let cgroups = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().clone());
    let notify = directory.join(format!("join-{}.sock", std::process::id()));
    let console = args
        .console
        .as_ref()
        .map(|console| {
            tty::setup_console_socket(&directory, console, &format!("join-tty-{}", std::process::id()))
        })
        .transpose()?;
    let (mut ended, holder) = io::pipe().map_err(LibcontainerError::OtherIO)?;
    let arguments = ContainerArgs {
        container_type: ContainerType::TenantContainer {
            exec_notify_fd: holder.as_raw_fd(),
        },
        syscall: SyscallType::default(),
        spec: Rc::new(spec),
        rootfs: PathBuf::from("/"),
        console_socket: console.as_ref().map(|console| console.as_raw_fd()),
        notify_listener: NotifyListener::new(&notify)?,
        preserve_fds: 0,
        container: None,
        user_ns_config: None,
        cgroup_config: CgroupConfig {
            cgroup_path: cgroups.unwrap_or_default(),
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
    };
    let pid = container_main_process(&arguments)?;
    NotifySocket::new(&notify).notify_container_start()?;
    // It goes with the container's state at the latest.
    let _ = std::fs::remove_file(notify);
    drop(holder);
    // The process closes its end by executing its program, or says here why it cannot.
    let mut said = String::new();
    ended
        .read_to_string(&mut said)
        .map_err(LibcontainerError::OtherIO)?;
    if said.is_empty() {
        Ok(pid.as_raw())
    } else {
        Err(LibcontainerError::Other(said))
    }
}

fn specification(bundle: &Path, process: &Path, init: i32) -> Result<Spec, LibcontainerError> {
    let mut spec = Spec::load(bundle.join("config.json"))?;
    let text = std::fs::read(process).map_err(LibcontainerError::OtherIO)?;
    let process: Process =
        serde_json::from_slice(&text).map_err(|error| LibcontainerError::OtherIO(error.into()))?;
    spec.set_process(Some(process)).set_hooks(None);
    if let Some(linux) = spec.linux_mut() {
        linux.set_namespaces(Some(namespaces(init)?)).set_resources(None);
    }
    Ok(spec)
}

/// The namespaces in which the container differs from this process.
fn namespaces(init: i32) -> Result<Vec<LinuxNamespace>, LibcontainerError> {
    let mut list = Vec::new();
    for (name, kind) in KINDS {
        let path = PathBuf::from(format!("/proc/{init}/ns/{name}"));
        let theirs = std::fs::read_link(&path).map_err(LibcontainerError::OtherIO)?;
        let ours = std::fs::read_link(format!("/proc/self/ns/{name}")).map_err(LibcontainerError::OtherIO)?;
        if theirs != ours {
            list.push(LinuxNamespaceBuilder::default().typ(kind).path(path).build()?);
        }
    }
    Ok(list)
}
