//! Starting containers and commands through a single-shot creator process.
//!
//! The creator and the process it makes both hold the write end of a status pipe; the latter closes it by
//! executing its program. So at the end of the pipe either the program runs, or the pipe carried the reason
//! why it does not.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use knode_linux::{fds, process};

use super::containers::{Container, Io};
use super::log::Log;
use super::protocol::{Answer, Message, StartContainer, StartExec};
use super::{Shim, now_nanos, tree};
use crate::crash;
use crate::entry::args;
use crate::entry::create::{self, CreateArgs, Target};

/// A creator at work.
pub(super) struct Launch {
    peer: u64,
    seq: u64,
    /// Process of the creator.
    pub(super) creator: i32,
    pub(super) status: File,
    said: Vec<u8>,
    /// Waits for the creator to hand over a terminal.
    pub(super) console: Option<Console>,
    what: What,
}

/// A socket on which a terminal will arrive.
pub(super) struct Console {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

/// What is being started.
enum What {
    Container {
        id: String,
        container: Box<Container>,
    },
    Exec {
        id: String,
        container: String,
        terminal_to: Option<OwnedFd>,
    },
}

/// A command that runs.
pub(super) struct Exec {
    pub(super) id: String,
    pub(super) pid: i32,
}

/// What is answered when a creator was killed.
const SILENT: &str = "the container's creator ended without a word";

/// What a creator reported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) result: Result<i32, String>,
    pub(super) oom_score_refused: bool,
}

impl Shim {
    /// Begins to start a container.
    pub(super) fn start_container(&mut self, peer: u64, seq: u64, start: &StartContainer) -> io::Result<()> {
        if self.is_known(&start.id) {
            return Err(io::Error::other(format!(
                "container {} is running already",
                start.id
            )));
        }
        crash::point("shim.asked");
        forget_earlier_try(start)?;
        let log = Log::open(start.log_file.clone())?;
        let console = start
            .tty
            .then(|| Console::listen(&start.bundle, "console.sock"))
            .transpose()?;
        let (stdio, ends) = Stdio3::for_container(start)?;
        let spawned = spawn(&start_args(start, console.as_ref()), &stdio)?;
        crash::point("shim.spawned");
        let io = Io {
            log,
            stdout: ends.stdout,
            stderr: ends.stderr,
            stdin: ends.stdin,
            terminal: None,
            stdin_once: start.stdin_once,
            unread_input: Vec::new(),
            attached: Vec::new(),
        };
        let container = Box::new(Container {
            pid: 0,
            started_at: 0,
            cgroup: start.cgroup.clone(),
            exit_file: start.exit_file.clone(),
            io,
        });
        let what = What::Container {
            id: start.id.clone(),
            container,
        };
        self.launches
            .push(Launch::new((peer, seq), spawned, console, what));
        Ok(())
    }

    /// Begins to run a command in a container.
    pub(super) fn start_exec(&mut self, peer: u64, seq: u64, start: &StartExec) -> io::Result<()> {
        let count = if start.tty { 1 } else { 3 };
        let missing = || io::Error::other("the request came without its descriptors");
        let mut fds = self.peers.take_fds(peer, count).ok_or_else(missing)?;
        let (console, stdio, terminal_to) = if start.tty {
            let directory = start.process_file.parent().unwrap_or(Path::new("/"));
            let console = Console::listen(directory, &format!("{}.sock", start.id))?;
            (Some(console), Stdio3::null()?, fds.pop())
        } else {
            (None, Stdio3::from_fds(fds)?, None)
        };
        let spawned = spawn(&exec_args(start, console.as_ref()), &stdio)?;
        let what = What::Exec {
            id: start.id.clone(),
            container: start.container.clone(),
            terminal_to,
        };
        self.launches
            .push(Launch::new((peer, seq), spawned, console, what));
        Ok(())
    }

    fn is_known(&self, id: &str) -> bool {
        let launching =
            |launch: &Launch| matches!(&launch.what, What::Container { id: other, .. } if other == id);
        self.containers.all.contains_key(id) || self.launches.iter().any(launching)
    }

    /// The terminal of a launch has arrived.
    pub(super) fn receive_console(&mut self, index: usize) {
        let Some(launch) = self.launches.get_mut(index) else {
            return;
        };
        if let Err(error) = launch.receive_console() {
            eprintln!("receiving a terminal: {error}");
        }
    }

    /// A status pipe has something to say; at its end the launch is decided.
    pub(super) fn read_status(&mut self, index: usize) {
        let Some(launch) = self.launches.get_mut(index) else {
            return;
        };
        let mut chunk = [0; 1024];
        match launch.status.read(&mut chunk) {
            Ok(count) if count > 0 => launch.said.extend_from_slice(&chunk[..count]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) => {}
            Ok(_) | Err(_) => {
                let launch = self.launches.swap_remove(index);
                self.finish_launch(launch);
            }
        }
    }

    fn finish_launch(&mut self, mut launch: Launch) {
        if launch.console.is_some() {
            // The terminal may have come together with the end of the pipe.
            let _ = launch.receive_console();
        }
        let report = read_report(&launch.said);
        crash::point("shim.decided");
        let started_at = now_nanos();
        if report.result.is_err() {
            self.kill_half_made(&launch.what);
        }
        let answer = match report.result {
            Ok(pid) => Answer::Started {
                pid,
                started_at,
                oom_score_refused: report.oom_score_refused,
            },
            Err(message) => Answer::Failed { message },
        };
        let started = match &answer {
            Answer::Started { pid, .. } => Some(*pid),
            _ => None,
        };
        self.peers.send(
            Some(launch.peer),
            &Message::Answer {
                seq: launch.seq,
                answer,
            },
        );
        if let Some(pid) = started {
            self.adopt(launch.what, pid, started_at);
            crash::point("shim.adopted");
        }
        self.answer_lists();
    }

    /// A creator has ended. Killed, it has told nobody what it had made by then, and that may hold the status pipe
    /// for ever: nothing of it may stay.
    pub(super) fn creator_ended(&mut self, index: usize) {
        let Some(launch) = self.launches.get_mut(index) else {
            return;
        };
        // What cannot be read now is the end of the pipe, which is noticed elsewhere.
        let mut chunk = [0; 1024];
        while let Ok(count @ 1..) = launch.status.read(&mut chunk) {
            launch.said.extend_from_slice(&chunk[..count]);
        }
        if let Some(launch) = self.launches.get(index)
            && read_report(&launch.said).result == Report::silent().result
        {
            self.kill_half_made(&launch.what);
        }
    }

    fn kill_half_made(&self, what: &What) {
        let killed = match what {
            What::Container { container, .. } => self.cgroups.kill(&container.cgroup),
            What::Exec { container, .. } => self.kill_strays(container),
        };
        if let Err(error) = killed {
            eprintln!("killing what a creator has left: {error}");
        }
    }

    /// Kills children in a container's group that nobody has asked for. While other commands are being started none
    /// is known to be one.
    fn kill_strays(&self, container: &str) -> io::Result<()> {
        let starting = |launch: &&Launch| matches!(launch.what, What::Exec { .. });
        if self.launches.iter().filter(starting).count() > 1 {
            return Ok(());
        }
        let Some(container) = self.containers.all.get(container) else {
            return Ok(());
        };
        let own = std::process::id();
        for pid in self.cgroups.processes(&container.cgroup)? {
            let known = pid == container.pid || self.execs.iter().any(|exec| exec.pid == pid);
            if !known && tree::parent(pid) == Some(own) {
                // It may have ended meanwhile.
                let _ = knode_linux::signal::send_raw(pid, libc::SIGKILL);
            }
        }
        Ok(())
    }

    /// The process is the shim's to keep; it may have ended already.
    fn adopt(&mut self, what: What, pid: i32, started_at: i64) {
        match what {
            What::Container { id, mut container } => {
                container.pid = pid;
                container.started_at = started_at;
                self.containers.all.insert(id, *container);
            }
            What::Exec { id, .. } => self.execs.push(Exec { id, pid }),
        }
        if let Some(index) = self.unclaimed.iter().position(|ended| ended.pid == pid) {
            let ended = self.unclaimed.swap_remove(index);
            self.claim(ended);
        }
    }
}

impl Report {
    /// Of a creator that has said nothing of what it made.
    fn silent() -> Self {
        Self {
            result: Err(SILENT.into()),
            oom_score_refused: false,
        }
    }
}

impl Launch {
    /// A creator that has said nothing yet. `asked` is the peer and the number of its request.
    fn new(asked: (u64, u64), spawned: (i32, File), console: Option<Console>, what: What) -> Self {
        Self {
            peer: asked.0,
            seq: asked.1,
            creator: spawned.0,
            status: spawned.1,
            said: Vec::new(),
            console,
            what,
        }
    }

    fn receive_console(&mut self) -> io::Result<()> {
        let Some(console) = self.console.take() else {
            return Ok(());
        };
        let terminal = console.accept()?;
        match &mut self.what {
            What::Container { container, .. } => {
                fds::set_nonblocking(&terminal)?;
                let file = File::from(terminal);
                container.io.stdout = Some(file.try_clone()?);
                container.io.stdin = Some(file.try_clone()?);
                container.io.terminal = Some(file);
            }
            What::Exec { terminal_to, .. } => {
                if let Some(socket) = terminal_to.take() {
                    use std::os::fd::AsFd;
                    fds::send(&socket, b"t", &[terminal.as_fd()])?;
                }
            }
        }
        Ok(())
    }
}

impl Console {
    /// Listens in `directory`, whose path may be too long for a socket's name.
    fn listen(directory: &Path, name: &str) -> io::Result<Self> {
        std::env::set_current_dir(directory)?;
        // What is left of an earlier attempt is in the way; mostly there is nothing.
        let _ = std::fs::remove_file(name);
        let listener = UnixListener::bind(name);
        std::env::set_current_dir("/")?;
        let listener = listener?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            path: directory.join(name),
        })
    }

    fn accept(&self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(false)?;
        let mut name = [0; 256];
        let (_, mut received) = fds::receive(&stream, &mut name)?;
        received.pop().ok_or_else(|| io::Error::other("no terminal came"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Of no use any more; its directory goes with the container at the latest.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Standard streams of a creator, which the process it makes inherits: input, output, error output.
struct Stdio3([OwnedFd; 3]);

/// The other ends of them.
#[derive(Default)]
struct Ends {
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Stdio3 {
    fn null() -> io::Result<Self> {
        Ok(Self([null()?, null()?, null()?]))
    }

    /// Of exactly three descriptors.
    fn from_fds(fds: Vec<OwnedFd>) -> io::Result<Self> {
        let three = <[OwnedFd; 3]>::try_from(fds);
        three
            .map(Self)
            .map_err(|_| io::Error::other("a command has three streams"))
    }

    fn for_container(start: &StartContainer) -> io::Result<(Self, Ends)> {
        if start.tty {
            return Ok((Self::null()?, Ends::default()));
        }
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        let mut ends = Ends {
            stdin: None,
            stdout: Some(File::from(OwnedFd::from(stdout))),
            stderr: Some(File::from(OwnedFd::from(stderr))),
        };
        let stdin = if start.stdin {
            let (reader, writer) = io::pipe()?;
            ends.stdin = Some(File::from(OwnedFd::from(writer)));
            reader.into()
        } else {
            null()?
        };
        for end in [&ends.stdin, &ends.stdout, &ends.stderr].into_iter().flatten() {
            fds::set_nonblocking(end)?;
        }
        Ok((Self([stdin, stdout_writer.into(), stderr_writer.into()]), ends))
    }
}

pub(super) fn null() -> io::Result<OwnedFd> {
    let file = File::options().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from)
}

/// What a creator that was killed has left is in the way of the next.
fn forget_earlier_try(start: &StartContainer) -> io::Result<()> {
    match std::fs::remove_dir_all(start.runtime_root.join(&start.id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn start_args(start: &StartContainer, console: Option<&Console>) -> CreateArgs {
    CreateArgs {
        id: start.id.clone(),
        runtime_root: start.runtime_root.clone(),
        target: Target::Bundle(start.bundle.clone()),
        console: console.map(|console| console.path.clone()),
        oom_score_adj: start.oom_score_adj,
        keeps_orphans: false,
        program: start.program.clone(),
        secluded: start.secluded.clone(),
    }
}

fn exec_args(start: &StartExec, console: Option<&Console>) -> CreateArgs {
    CreateArgs {
        id: start.container.clone(),
        runtime_root: start.runtime_root.clone(),
        target: Target::Process(start.process_file.clone()),
        console: console.map(|console| console.path.clone()),
        oom_score_adj: start.oom_score_adj,
        keeps_orphans: start.keeps_orphans,
        program: start.program.clone(),
        secluded: Vec::new(),
    }
}

/// Makes a creator of a copy of this process, which has one thread; gives its number and the read end of its status
/// pipe. It is not waited for by its number: all children are reaped in one place.
fn spawn(args: &CreateArgs, stdio: &Stdio3) -> io::Result<(i32, File)> {
    let (status, writer) = io::pipe()?;
    let writer = OwnedFd::from(writer);
    let Stdio3([stdin, stdout, stderr]) = stdio;
    let creator = process::fork(|| match process::keep_only([stdin, stdout, stderr], &writer) {
        Ok(status) => {
            create::run(args, status);
            0
        }
        // The end of the pipe says that there is no container; whoever listens is told no more than that.
        Err(_) => 1,
    })?;
    let status = File::from(OwnedFd::from(status));
    fds::set_nonblocking(&status)?;
    Ok((creator, status))
}

/// Reads what came over a status pipe: lines of `pid N`, `oom-score-refused` and `error TEXT`.
fn read_report(said: &[u8]) -> Report {
    let text = String::from_utf8_lossy(said);
    let mut report = Report::silent();
    for line in text.lines() {
        if let Some(message) = line.strip_prefix("error ") {
            report.result = Err(args::unescape(message));
            return report;
        } else if let Some(pid) = line.strip_prefix("pid ").and_then(|pid| pid.parse().ok()) {
            report.result = Ok(pid);
        } else if line == "oom-score-refused" {
            report.oom_score_refused = true;
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_pid_or_the_first_error() {
        let started = read_report(b"oom-score-refused\npid 42\n");
        assert_eq!(
            started,
            Report {
                result: Ok(42),
                oom_score_refused: true
            }
        );
        let failed = read_report(b"error exec: \"x\": no\nerror failed to build\npid 7\n");
        assert_eq!(failed.result, Err("exec: \"x\": no".into()));
        assert!(read_report(b"").result.is_err());
    }
}
