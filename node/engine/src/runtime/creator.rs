//! The creator's part with a program: it executes the program's commands instead of calling libcontainer.
//!
//! The program makes the container's process and ends; the process then belongs to the shim, which is the nearest
//! ancestor that takes orphans. It has the creator's standard streams.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::OciProgram;
use crate::entry::create::{Astray, CreateArgs, Target};

/// Where programs that a runtime executes itself (hooks) are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What runtimes put before the reason that people look for.
const PREFIXES: [&str; 5] = [
    "runc create failed: ",
    "exec failed: ",
    "unable to start container process: ",
    "container_linux.go",
    "starting container process caused: ",
];

/// Why a program made no process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// It could not be executed.
    #[error("execute {}", program.display())]
    Execute {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It refused.
    #[error("{0}")]
    Refused(String),
    /// It came to another PID namespace.
    #[error(transparent)]
    Astray(#[from] Astray),
    /// It succeeded without a word about the process.
    #[error("{} does not tell the process that it made", program.display())]
    NoProcess { program: PathBuf },
}

/// Makes what `args` say; gives the process. Standard streams are those of the caller.
pub(crate) fn make(program: &OciProgram, args: &CreateArgs) -> Result<i32, ProgramError> {
    let files = Files::beside(&args.target);
    let made = match &args.target {
        Target::Bundle(bundle) => create(program, args, bundle, &files),
        Target::Process(process) => exec(program, args, process, &files),
    };
    files.remove();
    made
}

fn create(
    program: &OciProgram,
    args: &CreateArgs,
    bundle: &Path,
    files: &Files,
) -> Result<i32, ProgramError> {
    let mut create = files.command(program, args, "create");
    create.arg("--bundle").arg(bundle).arg(&args.id);
    run(create, files)?;
    let started = files.pid(program).and_then(|pid| {
        args.check_namespace(pid)?;
        let mut start = command(program, &args.runtime_root);
        start.args(["--log-format", "json", "--log"]).arg(&files.log);
        // The streams are the container's now.
        start.arg("start").arg(&args.id).stdin(Stdio::null());
        start.stdout(Stdio::null()).stderr(Stdio::null());
        run(start, files).map(|()| pid)
    });
    if started.is_err() {
        // The first error is the one to tell.
        let _ = delete(program, &args.runtime_root, &args.id);
    }
    started
}

fn exec(program: &OciProgram, args: &CreateArgs, process: &Path, files: &Files) -> Result<i32, ProgramError> {
    let mut exec = files.command(program, args, "exec");
    exec.arg("--detach").arg("--process").arg(process).arg(&args.id);
    run(exec, files)?;
    files.pid(program)
}

/// Lets the program forget a container that has ended, with what it keeps of it. One that it does not know is no
/// error.
pub(crate) fn delete(program: &OciProgram, root: &Path, id: &str) -> Result<(), ProgramError> {
    if !root.join(id).exists() {
        return Ok(());
    }
    let mut delete = command(program, root);
    delete.args(["delete", "--force", id]).stdin(Stdio::null());
    let output = delete.output().map_err(executing(&delete))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ProgramError::Refused(format!(
        "delete: {}: {said}",
        output.status
    )))
}

fn command(program: &OciProgram, root: &Path) -> Command {
    let mut command = Command::new(&program.path);
    command
        .args(&program.options)
        .arg("--root")
        .arg(root)
        .env_clear()
        .env("PATH", PATH);
    command
}

fn executing(command: &Command) -> impl FnOnce(io::Error) -> ProgramError {
    let program = PathBuf::from(command.get_program());
    move |source| ProgramError::Execute { program, source }
}

fn run(mut command: Command, files: &Files) -> Result<(), ProgramError> {
    let status = command.status().map_err(executing(&command))?;
    if status.success() {
        return Ok(());
    }
    let log = fs::read_to_string(&files.log).unwrap_or_default();
    let program = command.get_program().to_string_lossy().into_owned();
    Err(ProgramError::Refused(
        reason(&log).unwrap_or_else(|| format!("{program}: {status}")),
    ))
}

/// A line of a runtime's log.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    msg: String,
}

/// The last error in a log, without what says no more than that there is one.
fn reason(log: &str) -> Option<String> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let errors = lines.filter(|line| line.level == "error" || line.level.is_empty());
    let last = errors.fold(None, |_, line| Some(line))?;
    let mut text = last.msg.as_str();
    for prefix in PREFIXES {
        if let Some(rest) = text.strip_prefix(prefix) {
            // The name of a source file is followed by its line.
            text = match prefix.ends_with(".go") {
                true => rest.split_once(": ").map_or(rest, |(_, rest)| rest),
                false => rest,
            };
        }
    }
    Some(text.to_owned())
}

/// Files through which a program speaks to us.
struct Files {
    pid: PathBuf,
    log: PathBuf,
}

impl Files {
    fn beside(target: &Target) -> Self {
        let base = match target {
            Target::Bundle(bundle) => bundle.join("runtime"),
            Target::Process(process) => process.clone(),
        };
        Self {
            pid: base.with_extension("pid"),
            log: base.with_extension("log"),
        }
    }

    /// A command that makes a process and tells it.
    fn command(&self, program: &OciProgram, args: &CreateArgs, name: &str) -> Command {
        let mut command = command(program, &args.runtime_root);
        command.args(["--log-format", "json", "--log"]).arg(&self.log);
        if args.scope.is_some() {
            command.arg("--systemd-cgroup");
        }
        command.arg(name).arg("--pid-file").arg(&self.pid);
        if let Some(console) = &args.console {
            // Its path may be too long for a socket's name.
            let (directory, name) = (console.parent(), console.file_name());
            command.current_dir(directory.unwrap_or(Path::new("/")));
            command.arg("--console-socket").arg(name.unwrap_or_default());
        }
        command
    }

    fn pid(&self, program: &OciProgram) -> Result<i32, ProgramError> {
        let text = fs::read_to_string(&self.pid).unwrap_or_default();
        let none = |_| ProgramError::NoProcess {
            program: program.path.clone(),
        };
        text.trim().parse().map_err(none)
    }

    /// They go with their directory at the latest.
    fn remove(&self) {
        for path in [&self.pid, &self.log] {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_error_without_its_preamble() {
        let runc = concat!(
            "{\"level\":\"warning\",\"msg\":\"cannot set it\",\"time\":\"x\"}\n",
            "{\"level\":\"error\",\"msg\":\"runc create failed: unable to start container process: exec: \\\"nope\\\": ",
            "executable file not found in $PATH\",\"time\":\"x\"}\n"
        );
        let expected = "exec: \"nope\": executable file not found in $PATH";
        assert_eq!(reason(runc).as_deref(), Some(expected));
        let crun =
            "{\"msg\":\"executable file `nope` not found in $PATH\",\"level\":\"error\",\"time\":\"x\"}\n";
        let expected = "executable file `nope` not found in $PATH";
        assert_eq!(reason(crun).as_deref(), Some(expected));
        let older =
            "{\"level\":\"error\",\"msg\":\"container_linux.go:380: starting container process caused: no\"}";
        assert_eq!(reason(older).as_deref(), Some("no"));
        assert_eq!(reason("not json"), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let program = OciProgram {
            path: "/no/such/runtime".into(),
            options: Vec::new(),
        };
        let args = CreateArgs {
            id: "c".into(),
            runtime_root: "/nowhere".into(),
            target: Target::Process("/nowhere/p.json".into()),
            console: None,
            oom_score_adj: None,
            keeps_orphans: false,
            program: None,
            scope: None,
            secluded: Vec::new(),
            joined: None,
            queues_label: None,
        };
        let error = make(&program, &args).unwrap_err();
        assert!(error.to_string().contains("/no/such/runtime"), "{error}");
    }
}
