//! The single-shot creator: one call of libcontainer in a process of its own, because that library changes
//! its caller (working directory, dumpable flag) and clones without regard to threads. It is a copy of the shim:
//! executing this large program anew takes longer than all that it does.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use knode_linux::cgroup::{Cgroups, DEFAULT_ROOT, Version};
use knode_linux::openat::RootDir;
use knode_linux::seclude::{self, Keep};
use knode_linux::xattr;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};

use super::executor::ProgramExecutor;
use super::report::Report;
use super::{enter, scope, stage};
use crate::crash;
use crate::error::chain;
use crate::guard;
use crate::runtime::OciProgram;
use crate::scope::Scope;
use crate::shim::protocol::OwnMounts;

/// What `fstatfs(2)` says of a file system of message queues.
const MQUEUE_MAGIC: i64 = 0x1980_0202;

/// What a creator makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A container out of the bundle in this directory.
    Bundle(PathBuf),
    /// The process in this file, in a running container.
    Process(PathBuf),
}

/// What a creator is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CreateArgs {
    /// Container id.
    pub(crate) id: String,
    /// Directory below which libcontainer keeps its state.
    pub(crate) runtime_root: PathBuf,
    /// What to make.
    pub(crate) target: Target,
    /// Socket that is sent the terminal.
    pub(crate) console: Option<PathBuf>,
    /// Score for the kernel's out-of-memory killer.
    pub(crate) oom_score_adj: Option<i32>,
    /// A command whose orphans stay below it, so that all can be killed.
    pub(crate) keeps_orphans: bool,
    /// The OCI runtime that makes it, `None` for the linked-in one.
    pub(crate) program: Option<OciProgram>,
    /// The scope of systemd's that it is.
    pub(crate) scope: Option<Scope>,
    /// Where to leave behind what other pods have mounted.
    pub(crate) secluded: Vec<OwnMounts>,
    /// The PID namespace that the container must come to.
    pub(crate) joined: Option<crate::shim::joined::NamespaceId>,
    /// The SELinux label of the pod's message queues, `None` to leave them as they are.
    pub(crate) queues_label: Option<String>,
}

impl CreateArgs {
    /// Whether a process that was made is where it is to be. Called before it executes its program.
    ///
    /// # Errors
    /// [`Astray`], when it is not.
    pub(crate) fn check_namespace(&self, pid: i32) -> Result<(), Astray> {
        match crate::shim::joined::is_in(self.joined, pid) {
            true => Ok(()),
            false => Err(Astray),
        }
    }
}

/// What was to be joined has ended, and its process number was given to another.
#[derive(Debug, thiserror::Error)]
#[error("the PID namespace to join has ended")]
pub(crate) struct Astray;

/// Makes what `args` say and reports over the status pipe. `shim` is the process that it is a copy of.
pub(crate) fn run(args: &CreateArgs, status: OwnedFd, shim: u32) {
    let report = Report::new(status);
    if let Err(error) = knode_linux::signal::reset() {
        return report.failed(&format!("resetting signals: {error}"));
    }
    crash::point("creator.begin");
    if let Err(error) = tie_to(shim) {
        return report.failed(&format!("tying the creator to its shim: {error}"));
    }
    if let Some(score) = args.oom_score_adj {
        set_oom_score(score, &report);
    }
    if let Err(error) = leave_others(&args.secluded) {
        return report.failed(&format!("leaving other pods' mounts: {error}"));
    }
    if let Some(program) = &args.program {
        return match crate::runtime::make(program, args) {
            Ok(pid) => report.started(pid),
            Err(error) => report.failed(&chain(&error)),
        };
    }
    let held = match (&args.scope, &args.target) {
        (Some(scope), Target::Bundle(bundle)) => match scope::enter(scope, bundle, shim) {
            Ok(held) => Some(held),
            Err(error) => return report.failed(&chain(&error)),
        },
        _ => None,
    };
    let made = match &args.target {
        Target::Bundle(bundle) => container(args, bundle, &report),
        Target::Process(process) => enter::run(args, process, &report),
    };
    match made {
        Ok(pid) => {
            if let Some(held) = held {
                held.leave();
            }
            report.started(pid)
        }
        Err(error) => report.failed(&chain(&error)),
    }
}

/// Without a shim nobody would hear of what is made. One that ended before it could be tied to sends no signal.
pub(super) fn tie_to(shim: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    match std::os::unix::process::parent_id() {
        parent if parent == shim => Ok(()),
        _ => Err(io::Error::other("it has ended")),
    }
}

/// Runtimes read the table of mounts a dozen times for each container: the fewer are in it, the better.
fn leave_others(secluded: &[OwnMounts]) -> io::Result<()> {
    let kept = secluded.iter().map(|own| Keep {
        directory: &own.directory,
        mount: own.mount,
        name: &own.name,
    });
    seclude::leave(&kept.collect::<Vec<_>>())
}

/// The score is inherited by what is made. Lowering it needs a capability that not every machine grants.
fn set_oom_score(score: i32, report: &Report) {
    if fs::write("/proc/self/oom_score_adj", score.to_string()).is_err() {
        report.oom_score_refused();
    }
}

fn builder(args: &CreateArgs, executor: ProgramExecutor) -> Result<ContainerBuilder, LibcontainerError> {
    let builder = ContainerBuilder::new(args.id.clone(), SyscallType::default())
        .with_root_path(&args.runtime_root)?
        .with_console_socket(args.console.as_ref())
        .with_executor(executor);
    builder.validate_id()
}

/// Version 2 has no controller for devices, and libcontainer's own guard needs a library in C.
fn guard_devices(bundle: &Path) -> Result<(), LibcontainerError> {
    let other = |error: &(dyn std::error::Error + 'static)| LibcontainerError::Other(chain(error));
    let cgroups = Cgroups::detect(DEFAULT_ROOT.as_ref()).map_err(|error| other(&error))?;
    if cgroups.version() == Version::V1 {
        return Ok(());
    }
    let spec = Spec::load(bundle.join("config.json")).map_err(|error| other(&error))?;
    let linux = spec.linux().as_ref();
    let group = linux.and_then(|linux| linux.cgroups_path().as_deref());
    let group = group.ok_or_else(|| LibcontainerError::Other("no control group is named".into()))?;
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let rules = resources.and_then(|resources| resources.devices().as_deref());
    guard::guard(&cgroups.directory("", group), rules.unwrap_or_default()).map_err(|error| other(&error))
}

/// Labels the pod's message queues as the container sees them: their file system is older than the container, so that
/// it takes no label when it is mounted.
fn label_queues(pid: i32, label: &str) -> io::Result<()> {
    let root = RootDir::open(Path::new(&format!("/proc/{pid}/root")))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let queues = root.open_with(Path::new("dev/mqueue"), flags, Mode::empty())?;
    if rustix::fs::fstatfs(&queues)?.f_type != MQUEUE_MAGIC {
        return Ok(());
    }
    xattr::set_at(
        &queues,
        Path::new(""),
        "security.selinux".as_ref(),
        label.as_bytes(),
    )
}

fn container(args: &CreateArgs, bundle: &Path, report: &Report) -> Result<i32, LibcontainerError> {
    let executor = ProgramExecutor {
        report: report.clone(),
        seccomp: None,
        keeps_orphans: false,
    };
    let staged = stage::prepare(bundle, &args.runtime_root).map_err(LibcontainerError::OtherIO)?;
    let mut container = builder(args, executor)?
        .as_init(&staged)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()?;
    crash::point("creator.built");
    guard_devices(&staged)?;
    let pid = container
        .pid()
        .map(|pid| pid.as_raw())
        .ok_or_else(|| LibcontainerError::Other("no process was made".into()))?;
    args.check_namespace(pid)
        .map_err(|error| LibcontainerError::Other(error.to_string()))?;
    if let Some(label) = &args.queues_label {
        label_queues(pid, label).map_err(LibcontainerError::OtherIO)?;
    }
    container.start()?;
    stage::settle(bundle, &staged).map_err(LibcontainerError::OtherIO)?;
    crash::point("creator.started");
    Ok(pid)
}
