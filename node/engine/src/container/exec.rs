//! Commands in running containers.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use knode_cri::ExecSyncResponse;
use knode_linux::fds;
use oci_spec::runtime::Spec;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::{Container, check_running};
use crate::crash;
use crate::engine::{Core, new_id};
use crate::error::{EngineError, FileContext, Result};
use crate::link::ShimLink;
use crate::shim::protocol::{Answer, Command, StartExec};
use crate::spec::exec_process;

/// Most output of ExecSync that is kept of each stream, in bytes.
const MAX_OUTPUT: usize = 16 * 1024 * 1024;

/// How long output may still come after the command has ended, when something it left behind holds the
/// pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// The streams of a command that runs.
pub(crate) enum ExecStreams {
    /// Three pipes; input is there if it was asked for.
    Pipes {
        stdin: Option<pipe::Sender>,
        stdout: pipe::Receiver,
        stderr: pipe::Receiver,
    },
    /// The master of its terminal.
    Terminal(OwnedFd),
}

/// A command that runs.
pub(crate) struct ExecSession {
    id: String,
    link: Arc<ShimLink>,
    exit: oneshot::Receiver<i32>,
}

impl ExecSession {
    /// Waits for its end and gives the exit code.
    ///
    /// # Errors
    /// [`EngineError::ShimGone`].
    pub(crate) async fn wait(&mut self) -> Result<i32> {
        let gone = |_| EngineError::ShimGone {
            sandbox: String::new(),
        };
        (&mut self.exit).await.map_err(gone)
    }

    /// Kills it with all of its process group.
    pub(crate) async fn kill(&self) -> Result<()> {
        let command = Command::SignalExec {
            exec: self.id.clone(),
            signal: libc::SIGKILL,
        };
        self.link.ask(command, &[]).await.map(|_| ())
    }
}

impl Drop for ExecSession {
    fn drop(&mut self) {
        self.link.forget_exec(&self.id);
    }
}

/// What becomes of processes whose parent in a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orphans {
    /// They are the container's.
    Free,
    /// They stay below the command, so that they can be killed with it.
    Kept,
}

impl Core {
    /// Runs a command to its end. Past `timeout` it is killed.
    ///
    /// # Errors
    /// [`EngineError::Exec`] when it cannot run, [`EngineError::ExecTimeout`].
    pub(crate) async fn exec_sync(
        self: &Arc<Self>,
        container: &Arc<Container>,
        command: &[String],
        timeout: i64,
    ) -> Result<ExecSyncResponse> {
        let keep = if timeout > 0 { Orphans::Kept } else { Orphans::Free };
        let (mut session, streams) = self.exec_as(container, command, (false, false), keep).await?;
        let ExecStreams::Pipes {
            mut stdout,
            mut stderr,
            ..
        } = streams
        else {
            return Err(EngineError::Exec {
                id: session.id.clone(),
                message: "no pipes were made".into(),
            });
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let limit = u64::try_from(timeout)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs);
        let code = {
            let mut output =
                Box::pin(async { tokio::join!(read(&mut stdout, &mut out), read(&mut stderr, &mut err)) });
            let ended = async {
                tokio::select! {
                    code = session.wait() => (code, true),
                    _ = &mut output => (session.wait().await, false),
                }
            };
            let (code, more) = match limit {
                None => ended.await,
                Some(limit) => match tokio::time::timeout(limit, ended).await {
                    Ok(ended) => ended,
                    Err(_) => return self.exec_overdue(session, timeout).await,
                },
            };
            if more {
                // Cut short only when a process left behind keeps the pipe open.
                let _ = tokio::time::timeout(DRAIN, output).await;
            }
            code?
        };
        crash::point("exec.over");
        Ok(ExecSyncResponse {
            stdout: out,
            stderr: err,
            exit_code: code,
        })
    }

    async fn exec_overdue(&self, mut session: ExecSession, seconds: i64) -> Result<ExecSyncResponse> {
        session.kill().await?;
        session.wait().await?;
        Err(EngineError::ExecTimeout { seconds })
    }

    /// Starts a command.
    ///
    /// # Errors
    /// [`EngineError::ContainerState`] for a container that does not run, [`EngineError::Exec`] when the
    /// program cannot run.
    pub(crate) async fn exec(
        self: &Arc<Self>,
        container: &Arc<Container>,
        command: &[String],
        tty: bool,
        stdin: bool,
    ) -> Result<(ExecSession, ExecStreams)> {
        self.exec_as(container, command, (tty, stdin), Orphans::Free)
            .await
    }

    async fn exec_as(
        self: &Arc<Self>,
        container: &Arc<Container>,
        command: &[String],
        (tty, stdin): (bool, bool),
        orphans: Orphans,
    ) -> Result<(ExecSession, ExecStreams)> {
        check_running(container)?;
        if command.is_empty() {
            return Err(EngineError::Invalid("the request has no command".into()));
        }
        let link = self.sandbox(&container.sandbox_id)?.link()?;
        crash::point("exec.begin");
        let id = new_id()[..32].to_string();
        let process_file = self.layout.execs().join(format!("{id}.json"));
        self.write_process(container, command, tty, &process_file)?;
        crash::point("exec.written");
        let session = ExecSession {
            exit: link.exec_exit(&id),
            id: id.clone(),
            link: link.clone(),
        };
        let record = container.record();
        let start = StartExec {
            id,
            container: container.id.clone(),
            runtime_root: self.layout.runtime_root(),
            process_file: process_file.clone(),
            keeps_orphans: orphans == Orphans::Kept,
            tty,
            oom_score_adj: oom_score(&record),
            program: record.program.clone(),
        };
        let started = start_exec(&link, start, stdin).await;
        crash::point("exec.answered");
        fs::remove_file(&process_file).file("removing", &process_file)?;
        if started.is_err() {
            remove_leavings(&process_file);
        }
        crash::point("exec.forgotten");
        Ok((session, started?))
    }

    fn write_process(
        &self,
        container: &Container,
        command: &[String],
        tty: bool,
        path: &std::path::Path,
    ) -> Result<()> {
        let config = self.layout.container(&container.id).join("config.json");
        let of = |source| EngineError::Spec {
            container: container.id.clone(),
            source,
        };
        let spec = Spec::load(&config).map_err(|error| of(error.into()))?;
        // Programs load the filter themselves, in time.
        let filtered = container.with(|record| record.filtered && record.program.is_none());
        let process = spec
            .process()
            .as_ref()
            .map(|process| exec_process(process, command, tty, filtered));
        let text = serde_json::to_vec(&process)
            .map_err(std::io::Error::from)
            .file("encoding", path)?;
        fs::write(path, text).file("writing", path)
    }
}

/// What a shim or a creator that was killed has left beside the file of the process: the terminal's socket, and what a
/// runtime's program wrote. Mostly there is nothing.
fn remove_leavings(process_file: &std::path::Path) {
    for kind in ["sock", "pid", "log"] {
        // The engine clears the directory when it starts.
        let _ = fs::remove_file(process_file.with_extension(kind));
    }
}

fn oom_score(record: &crate::state::ContainerRecord) -> Option<i32> {
    let resources = record
        .config
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.as_ref());
    resources.and_then(|resources| i32::try_from(resources.oom_score_adj).ok())
}

async fn start_exec(link: &ShimLink, start: StartExec, stdin: bool) -> Result<ExecStreams> {
    let id = start.id.clone();
    let failed = |message: String| EngineError::Exec {
        id: id.clone(),
        message,
    };
    let no_pipes = |error: std::io::Error| failed(format!("making its streams: {error}"));
    if start.tty {
        let (here, there) = std::os::unix::net::UnixStream::pair().map_err(no_pipes)?;
        let answer = link.call(Command::Exec(Box::new(start)), &[there.into()]).await?;
        launched(answer).map_err(failed)?;
        return receive_terminal(here)
            .map(ExecStreams::Terminal)
            .map_err(no_pipes);
    }
    let (streams, theirs) = exec_pipes(stdin).map_err(no_pipes)?;
    let answer = link.call(Command::Exec(Box::new(start)), &theirs).await?;
    launched(answer).map_err(failed)?;
    Ok(streams)
}

fn exec_pipes(stdin: bool) -> std::io::Result<(ExecStreams, [OwnedFd; 3])> {
    let (input, input_writer) = std::io::pipe()?;
    let (output, output_writer) = std::io::pipe()?;
    let (errors, errors_writer) = std::io::pipe()?;
    let (writer, stdout, stderr) = (
        OwnedFd::from(input_writer),
        OwnedFd::from(output),
        OwnedFd::from(errors),
    );
    for fd in [&writer, &stdout, &stderr] {
        fds::set_nonblocking(fd)?;
    }
    let streams = ExecStreams::Pipes {
        // Dropped if it is not wanted: the command reads the end of its input.
        stdin: stdin.then(|| pipe::Sender::from_owned_fd(writer)).transpose()?,
        stdout: pipe::Receiver::from_owned_fd(stdout)?,
        stderr: pipe::Receiver::from_owned_fd(stderr)?,
    };
    Ok((
        streams,
        [
            OwnedFd::from(input),
            OwnedFd::from(output_writer),
            OwnedFd::from(errors_writer),
        ],
    ))
}

fn launched(answer: Answer) -> Result<(), String> {
    match answer {
        Answer::Started { .. } => Ok(()),
        Answer::Failed { message } => Err(message),
        other => Err(format!("unexpected answer {other:?}")),
    }
}

/// The shim has sent it before it answered, so it is there.
fn receive_terminal(socket: std::os::unix::net::UnixStream) -> std::io::Result<OwnedFd> {
    socket.set_nonblocking(true)?;
    let (_, mut received) = fds::receive(&socket, &mut [0; 1])?;
    let terminal = received
        .pop()
        .ok_or_else(|| std::io::Error::other("no terminal came"))?;
    fds::set_nonblocking(&terminal)?;
    Ok(terminal)
}

/// Reads to the end; what is over the limit is read and dropped, so that the command can go on.
async fn read(stream: &mut (impl AsyncRead + Unpin), kept: &mut Vec<u8>) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        let room = MAX_OUTPUT - kept.len();
        kept.extend_from_slice(&chunk[..count.min(room)]);
    }
}
