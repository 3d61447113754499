//! Executes plugins: bounded in time and output, never left behind.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::call::{Call, search_path};
use crate::error::{CallError, PluginError};

/// A result is a few kilobytes.
const MOST_OUTPUT: usize = 1 << 20;
/// Of standard error the end is kept: that is where the reason stands.
const MOST_ERRORS: usize = 16 << 10;
/// A program that is being written cannot be executed; whoever installs it is soon done (`pkg/invoke/raw_exec.go`).
const BUSY_TRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// Where plugins lie and how long one may take.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    pub path: Vec<PathBuf>,
    pub bound: Duration,
}

struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    errors: Vec<u8>,
}

impl Executor {
    /// The program of a plugin.
    pub fn find(&self, plugin: &str) -> Result<PathBuf, CallError> {
        let mut candidates = self.path.iter().map(|dir| dir.join(plugin));
        let found = candidates.find(|p| p.is_file());
        found.ok_or_else(|| CallError::NotFound {
            plugin: plugin.to_owned(),
            path: self.path.clone(),
        })
    }

    /// Calls a plugin; what it printed, if it succeeded.
    pub async fn call(&self, call: &Call) -> Result<Vec<u8>, CallError> {
        let program = self.find(&call.plugin)?;
        tracing::debug!(plugin = call.plugin, network = call.network, command = %call.command, "calling a plugin");
        let execute = |source| CallError::Execute {
            program: program.clone(),
            source,
        };
        let child = self.spawn(&program, call).await.map_err(execute)?;
        let group = Group::of(&child);
        let ended = tokio::time::timeout(self.bound, talk(child, &call.stdin)).await;
        let ended = ended
            .map_err(|_| CallError::Timeout(self.bound))?
            .map_err(execute)?;
        if ended.output.len() > MOST_OUTPUT {
            return Err(CallError::TooMuch(MOST_OUTPUT));
        }
        group.ended_by_itself();
        log_errors(call, &ended);
        if ended.status.success() {
            Ok(ended.output)
        } else {
            Err(reason(&ended))
        }
    }

    async fn spawn(&self, program: &Path, call: &Call) -> io::Result<Child> {
        let mut command = Command::new(program);
        command
            .envs(call.env.iter().map(|(key, value)| (key, value)))
            .env("CNI_PATH", search_path(&self.path))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut tries = 0;
        loop {
            tries += 1;
            match command.spawn() {
                Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                done => return done,
            }
        }
    }
}

/// The process group of a plugin: killed with this value when the plugin took too long, said too much or was given up.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.map(Pid::from_raw))
    }

    /// Its number may be another's by now.
    fn ended_by_itself(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The group may have ended just now.
            let _gone = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn talk(mut child: Child, input: &[u8]) -> io::Result<Ended> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A plugin that does not read its input still says why in its answer.
            let _ = stdin.write_all(input).await;
        }
    };
    let ((), output, errors) = tokio::join!(feed, head(stdout), tail(stderr));
    let (output, errors) = (output?, errors?);
    if output.len() > MOST_OUTPUT {
        child.start_kill()?;
    }
    let status = child.wait().await?;
    Ok(Ended {
        status,
        output,
        errors,
    })
}

/// The beginning of a stream, one byte more than is allowed.
async fn head(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream
            .take(MOST_OUTPUT as u64 + 1)
            .read_to_end(&mut bytes)
            .await?;
    }
    Ok(bytes)
}

/// The end of a stream.
async fn tail(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return Ok(kept);
    };
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(kept),
            count => kept.extend_from_slice(&buffer[..count]),
        }
        let surplus = kept.len().saturating_sub(MOST_ERRORS);
        kept.drain(..surplus);
    }
}

fn log_errors(call: &Call, ended: &Ended) {
    let text = String::from_utf8_lossy(&ended.errors);
    let text = text.trim();
    if !text.is_empty() {
        let (plugin, network, command) = (&call.plugin, &call.network, call.command);
        tracing::info!(plugin, network, %command, status = %ended.status, "a plugin's standard error: {text}");
    }
}

/// Why a plugin ended badly, in its own words if it has said so in the specification's form.
fn reason(ended: &Ended) -> CallError {
    if let Ok(error) = serde_json::from_slice::<PluginError>(&ended.output)
        && !error.msg.is_empty()
    {
        return error.into();
    }
    let said = if ended.output.trim_ascii().is_empty() {
        &ended.errors
    } else {
        &ended.output
    };
    let end = &said[said.len().saturating_sub(MOST_ERRORS)..];
    CallError::Silent {
        status: ended.status,
        output: String::from_utf8_lossy(end).trim().to_owned(),
    }
}
