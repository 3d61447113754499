//! The single-shot creator: one call of libcontainer in a process of its own, because that library changes
//! its caller (working directory, dumpable flag) and clones without regard to threads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use oci_spec::runtime::Spec;

use super::args::{CreateArgs, Target};
use super::executor::ProgramExecutor;
use super::join;
use super::report::Report;
use super::{stage, tenant};
use crate::crash;
use crate::error::chain;

/// Makes what `args` say and reports over the status pipe.
pub(super) fn run(args: CreateArgs) {
    let report = match knode_linux::fds::inherited(args.status_fd) {
        Ok(pipe) => Report::new(pipe),
        Err(error) => return eprintln!("create: status pipe {}: {error}", args.status_fd),
    };
    if let Err(error) = knode_linux::signal::reset() {
        return report.failed(&format!("resetting signals: {error}"));
    }
    crash::point("creator.begin");
    // Without a shim nobody would hear of what is made.
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
    {
        return report.failed(&format!("tying the creator to its shim: {error}"));
    }
    if let Some(score) = args.oom_score_adj {
        set_oom_score(score, &report);
    }
    if let Some(program) = &args.program {
        return match crate::runtime::make(program, &args) {
            Ok(pid) => report.started(pid),
            Err(error) => report.failed(&chain(&error)),
        };
    }
    let made = match &args.target {
        Target::Bundle(bundle) => container(&args, bundle, &report),
        Target::Process(process) => command(&args, process, &report),
    };
    match made {
        Ok(pid) => report.started(pid),
        Err(error) => report.failed(&chain(&error)),
    }
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
    container.start()?;
    stage::settle(bundle, &staged).map_err(LibcontainerError::OtherIO)?;
    crash::point("creator.started");
    container
        .pid()
        .map(|pid| pid.as_raw())
        .ok_or_else(|| LibcontainerError::Other("no process was made".into()))
}

fn command(args: &CreateArgs, process: &Path, report: &Report) -> Result<i32, LibcontainerError> {
    let spec = container_spec(&args.runtime_root.join(&args.id)).map_err(LibcontainerError::OtherIO)?;
    if let Some(spec) = &spec {
        join::ahead(spec);
    }
    let seccomp = spec.and_then(|spec| spec.linux().as_ref()?.seccomp().clone());
    let executor = ProgramExecutor {
        report: report.clone(),
        // A command must not escape the container's filter.
        seccomp: seccomp.map(Box::new),
        keeps_orphans: args.keeps_orphans,
    };
    if tenant::is_needed(&args.runtime_root.join(&args.id)) {
        return tenant::run(args, process, executor);
    }
    let pid = builder(args, executor)?
        .as_tenant()
        .with_detach(true)
        .as_sibling(true)
        .with_process(Some(PathBuf::from(process)))
        .build()?;
    Ok(pid.as_raw())
}

/// The container's own specification.
fn container_spec(state: &Path) -> io::Result<Option<Spec>> {
    let state: serde_json::Value = serde_json::from_slice(&fs::read(state.join("state.json"))?)?;
    let Some(bundle) = state.get("bundle").and_then(|bundle| bundle.as_str()) else {
        return Ok(None);
    };
    let spec = Spec::load(Path::new(bundle).join("config.json"));
    spec.map(Some).map_err(io::Error::other)
}
