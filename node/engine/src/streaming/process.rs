//! Running a command and attaching to a container, whatever the protocol.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use knode_cri::{AttachRequest, ExecRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};

use super::channel::{ClientEvent, Ends, Outcome, Output, ServerEvent};
use crate::container::ExecStreams;
use crate::engine::Core;
use crate::error::{EngineError, Result, chain};
use crate::shim::protocol::{Attach, Command};

/// How long an output may be silent after the command has ended.
const DRAIN: Duration = Duration::from_secs(1);

/// Most bytes read at a time.
const CHUNK: usize = 16 * 1024;

/// Bytes that a pipe to an attached client holds before the client counts as too slow.
const ATTACH_PIPE: usize = 1024 * 1024;

/// Runs a command and tells how it went.
pub(super) async fn exec(core: Arc<Core>, request: ExecRequest, ends: Ends) {
    let output = ends.output.clone();
    let outcome = match run(&core, &request, ends).await {
        Ok(0) => Outcome::Success,
        Ok(code) => Outcome::Exit {
            code,
            command: request.cmd.clone(),
        },
        Err(error) => Outcome::Failed(format!("error executing command in container: {}", chain(&error))),
    };
    // A client that is gone needs no answer.
    let _ = output.send(ServerEvent::End(outcome)).await;
}

async fn run(core: &Arc<Core>, request: &ExecRequest, ends: Ends) -> Result<i32> {
    let container = core.container(&request.container_id)?;
    let (mut session, streams) = core
        .exec(&container, &request.cmd, request.tty, request.stdin)
        .await?;
    let Ends { events, output } = ends;
    let ended = watch::Sender::new(false);
    let over = || Some(ended.subscribe());
    let (input, copied) = match streams {
        ExecStreams::Pipes {
            stdin,
            stdout,
            stderr,
        } => {
            let out = request.stdout.then(|| output.clone());
            let err = request.stderr.then(|| output.clone());
            let input = tokio::spawn(feed(events, Input::Pipe(stdin)));
            let (out, err) = (
                copy(stdout, Output::Stdout, out, over()),
                copy(stderr, Output::Stderr, err, over()),
            );
            let copied = async {
                tokio::join!(out, err);
            };
            (input, tokio::spawn(copied))
        }
        ExecStreams::Terminal(terminal) => {
            let failed = |error: io::Error| EngineError::Exec {
                id: String::new(),
                message: error.to_string(),
            };
            let (reader, input) = split_terminal(terminal).map_err(failed)?;
            let copied = copy(reader, Output::Stdout, Some(output.clone()), over());
            (tokio::spawn(feed(events, input)), tokio::spawn(copied))
        }
    };
    drop(output);
    let code = session.wait().await;
    ended.send_replace(true);
    // A task that failed has nothing more to tell.
    let _ = copied.await;
    input.abort();
    code
}

/// Connects a client to a container's own streams until one of them is over.
pub(super) async fn attach(core: Arc<Core>, request: AttachRequest, ends: Ends) {
    let output = ends.output.clone();
    let outcome = match attach_streams(&core, &request, ends).await {
        Ok(()) => Outcome::Success,
        Err(error) => Outcome::Failed(format!("error attaching to container: {}", chain(&error))),
    };
    // A client that is gone needs no answer.
    let _ = output.send(ServerEvent::End(outcome)).await;
}

async fn attach_streams(core: &Arc<Core>, request: &AttachRequest, ends: Ends) -> Result<()> {
    let container = core.container(&request.container_id)?;
    let (tty, has_stdin, stdin_once) =
        container.with(|record| (record.config.tty, record.config.stdin, record.config.stdin_once));
    let link = core.sandbox(&container.sandbox_id)?.link()?;
    let failed = |error: io::Error| EngineError::Shim {
        message: format!("making pipes: {error}"),
    };
    let want = Attach {
        container: container.id.clone(),
        stdin: request.stdin && has_stdin,
        stdout: request.stdout || tty,
        stderr: request.stderr && !tty,
    };
    let takes_input = want.stdin;
    let (ours, theirs) = attach_pipes(&want).map_err(failed)?;
    if !link.ask(Command::Attach(want), &theirs).await? {
        return Err(EngineError::ContainerNotFound(container.id.clone()));
    }
    drop(theirs);
    let Ends { events, output } = ends;
    let resize = Resizer {
        core: core.clone(),
        container: container.id.clone(),
        sandbox: container.sandbox_id.clone(),
    };
    let mut input = tokio::spawn(feed(events, Input::Attached(ours.stdin, tty.then_some(resize))));
    let mut copied = tokio::spawn(async move {
        tokio::join!(
            copy_opt(ours.stdout, Output::Stdout, output.clone()),
            copy_opt(ours.stderr, Output::Stderr, output)
        );
    });
    tokio::select! {
        _ = &mut copied => input.abort(),
        ended = &mut input => {
            // Whose input is the container's only one waits for what comes of it; others have said what they had to.
            let stays = (!takes_input || stdin_once && !tty) && matches!(ended, Ok(InputEnd::Closed));
            if stays {
                // A task that failed has nothing more to tell.
                let _ = copied.await;
            } else {
                drain_briefly(&mut copied).await;
            }
        }
    }
    Ok(())
}

/// Output that answers the last input still reaches the client.
async fn drain_briefly(copied: &mut tokio::task::JoinHandle<()>) {
    if tokio::time::timeout(Duration::from_millis(200), &mut *copied)
        .await
        .is_err()
    {
        copied.abort();
    }
}

/// Our ends of an attached client's pipes.
struct AttachEnds {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

fn attach_pipes(want: &Attach) -> io::Result<(AttachEnds, Vec<OwnedFd>)> {
    let mut theirs = Vec::new();
    let mut ours = AttachEnds {
        stdin: None,
        stdout: None,
        stderr: None,
    };
    if want.stdin {
        let (reader, writer) = nonblocking_pipe()?;
        theirs.push(reader);
        ours.stdin = Some(pipe::Sender::from_owned_fd(writer)?);
    }
    for (wanted, slot) in [(want.stdout, &mut ours.stdout), (want.stderr, &mut ours.stderr)] {
        if wanted {
            let (reader, writer) = nonblocking_pipe()?;
            // A smaller pipe only makes the client's patience shorter.
            let _ = rustix::pipe::fcntl_setpipe_size(&writer, ATTACH_PIPE);
            theirs.push(writer);
            *slot = Some(pipe::Receiver::from_owned_fd(reader)?);
        }
    }
    Ok((ours, theirs))
}

fn nonblocking_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    knode_linux::fds::set_nonblocking(&reader)?;
    knode_linux::fds::set_nonblocking(&writer)?;
    Ok((reader, writer))
}

/// Where a client's input goes.
enum Input {
    Pipe(Option<pipe::Sender>),
    Terminal(pipe::Sender, File),
    Attached(Option<pipe::Sender>, Option<Resizer>),
}

/// Why input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputEnd {
    /// The client has said that there is no more.
    Closed,
    /// The client is gone.
    Gone,
}

struct Resizer {
    core: Arc<Core>,
    container: String,
    sandbox: String,
}

impl Resizer {
    async fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let link = self.core.sandbox(&self.sandbox)?.link()?;
        link.ask(
            Command::Resize {
                container: self.container.clone(),
                columns,
                rows,
            },
            &[],
        )
        .await
        .map(|_| ())
    }
}

/// Passes input and window sizes on.
async fn feed(mut events: mpsc::Receiver<ClientEvent>, mut input: Input) -> InputEnd {
    let mut end = InputEnd::Gone;
    while let Some(event) = events.recv().await {
        match event {
            ClientEvent::Stdin(bytes) => input.write(&bytes).await,
            ClientEvent::StdinEnd => {
                input.close();
                end = InputEnd::Closed;
                if matches!(input, Input::Attached(..)) {
                    return end;
                }
            }
            ClientEvent::Resize { columns, rows } => input.resize(columns, rows).await,
        }
    }
    end
}

impl Input {
    async fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Pipe(Some(pipe)) | Self::Attached(Some(pipe), _) => {
                if pipe.write_all(bytes).await.is_err() {
                    // Nobody reads any more; the process itself may go on.
                    self.close();
                }
            }
            Self::Terminal(terminal, _) => {
                if let Err(error) = terminal.write_all(bytes).await {
                    tracing::debug!(%error, "writing to a terminal");
                }
            }
            Self::Pipe(None) | Self::Attached(None, _) => {}
        }
    }

    fn close(&mut self) {
        match self {
            Self::Pipe(pipe) | Self::Attached(pipe, _) => *pipe = None,
            Self::Terminal(..) => {}
        }
    }

    async fn resize(&self, columns: u16, rows: u16) {
        let result = match self {
            Self::Terminal(_, master) => {
                knode_linux::tty::resize(master, columns, rows).map_err(|error| error.to_string())
            }
            Self::Attached(_, Some(resizer)) => {
                resizer.resize(columns, rows).await.map_err(|error| chain(&error))
            }
            Self::Pipe(_) | Self::Attached(_, None) => Ok(()),
        };
        if let Err(error) = result {
            tracing::debug!(error, "resizing a terminal");
        }
    }
}

async fn copy_opt(from: Option<pipe::Receiver>, kind: Output, to: mpsc::Sender<ServerEvent>) {
    if let Some(from) = from {
        copy(from, kind, Some(to), None).await;
    }
}

/// Copies an output to the client; without a client for it, it is read and dropped. Once `ended` says that the command
/// has, an output that is silent is over: what the command left behind may hold it open for ever.
async fn copy(
    mut from: pipe::Receiver,
    kind: Output,
    to: Option<mpsc::Sender<ServerEvent>>,
    mut ended: Option<watch::Receiver<bool>>,
) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            read = from.read(&mut chunk) => read,
            () = silent(&mut ended) => return,
        };
        let Ok(count @ 1..) = read else { return };
        match &to {
            Some(to) => {
                let data = ServerEvent::Data(kind, Bytes::copy_from_slice(&chunk[..count]));
                if to.send(data).await.is_err() {
                    return;
                }
            }
            None if ended.as_ref().is_some_and(|ended| *ended.borrow()) => return,
            None => {}
        }
    }
}

/// Completes [`DRAIN`] after the command has ended.
async fn silent(ended: &mut Option<watch::Receiver<bool>>) {
    match ended {
        // Without its sender nobody waits for the copy either.
        Some(ended) => drop(ended.wait_for(|ended| *ended).await),
        None => std::future::pending().await,
    }
    tokio::time::sleep(DRAIN).await;
}

/// The two directions of a terminal's master. Reading answers EIO when the last process has closed it.
fn split_terminal(master: OwnedFd) -> io::Result<(pipe::Receiver, Input)> {
    let reader = pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
    let writer = pipe::Sender::from_owned_fd_unchecked(master.try_clone()?)?;
    Ok((reader, Input::Terminal(writer, File::from(master))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client may be as slow as it likes; what the command has left behind may not hold the stream open.
    #[tokio::test]
    async fn a_slow_client_gets_all_that_a_command_has_printed() {
        let (reader, writer) = nonblocking_pipe().unwrap();
        let text = vec![b'x'; 3 * CHUNK];
        rustix::io::write(&writer, &text).unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let ended = watch::Sender::new(true);
        let from = pipe::Receiver::from_owned_fd(reader).unwrap();
        let copied = tokio::spawn(copy(from, Output::Stdout, Some(sender), Some(ended.subscribe())));
        tokio::time::sleep(DRAIN + DRAIN / 4).await;
        let mut count = 0;
        while let Some(ServerEvent::Data(_, bytes)) = receiver.recv().await {
            count += bytes.len();
        }
        assert_eq!(count, text.len());
        copied.await.unwrap();
        drop(writer);
    }
}
