//! Starting containers and commands through a single-shot creator process.
//!
//! The creator and the process it makes both hold the write end of a status pipe; the latter closes it by
//! executing its program. So at the end of the pipe either the program runs, or the pipe carried the reason
//! why it does not.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use knode_linux::{fds, process};

use super::containers::{Container, Io};
use super::joined::Joined;
use super::log::Log;
use super::protocol::{Answer, Message, StartContainer, StartExec};
use super::streams::{Console, Stdio3};
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

/// What is being started.
enum What {
    Container {
        id: String,
        container: Box<Container>,
        joined: Option<Joined>,
    },
    Exec {
        id: String,
        container: String,
        /// When the creator began.
        begun: Option<tree::Ticks>,
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
        let joined = start.joins.as_ref().map(|whose| self.join(whose)).transpose()?;
        forget_earlier_try(start)?;
        let log = Log::open(start.log_file.clone())?;
        let console = start
            .tty
            .then(|| Console::listen(&start.bundle, "console.sock"))
            .transpose()?;
        let (stdio, ends) = Stdio3::for_container(start)?;
        let spawned = spawn(&start_args(start, console.as_ref(), joined.as_ref()), &stdio)?;
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
            joined,
        };
        self.launches
            .push(Launch::new((peer, seq), spawned, console, what));
        Ok(())
    }

    /// Begins to run a command in a container.
    pub(super) fn start_exec(&mut self, peer: u64, seq: u64, start: &StartExec) -> io::Result<()> {
        crash::point("shim.exec-asked");
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
        crash::point("shim.exec-spawned");
        let what = What::Exec {
            id: start.id.clone(),
            container: start.container.clone(),
            // It has not been waited for.
            begun: tree::begun(spawned.0),
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
        let mut report = read_report(&launch.said);
        crash::point("shim.decided");
        let started_at = now_nanos();
        if let Err(message) = &mut report.result {
            self.kill_half_made(&launch, message == SILENT);
            if let Some(lost) = self.lost_namespace(&launch.what) {
                *message = lost;
            }
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
            && let Err(message) = read_report(&launch.said).result
        {
            self.kill_half_made(launch, message == SILENT);
        }
    }

    /// Kills what a creator has made but not told (`silent`), or has made and found wrong.
    fn kill_half_made(&self, launch: &Launch, silent: bool) {
        let killed = match &launch.what {
            What::Container { container, .. } => self.cgroups.kill(&container.cgroup),
            // Otherwise it has told why the one process that it made has ended.
            What::Exec { container, begun, .. } => match begun {
                Some(begun) if silent => self.kill_strays(container, *begun),
                _ => Ok(()),
            },
        };
        if let Err(error) = killed {
            eprintln!("killing what a creator has left: {error}");
        }
    }

    /// A container that cannot be made because what it was to join has ended meanwhile.
    fn lost_namespace(&self, what: &What) -> Option<String> {
        match what {
            What::Container { joined, .. } => self.lost(joined.as_ref()?),
            What::Exec { .. } => None,
        }
    }

    /// Kills children in a container's group that nobody has asked for and that are no older than `begun`: what is are
    /// orphans of a container without a PID namespace of its own. While other commands are being started none is known
    /// to be a stray.
    fn kill_strays(&self, container: &str, begun: tree::Ticks) -> io::Result<()> {
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
            if !known && tree::parent(pid) == Some(own) && tree::begun(pid).is_some_and(|at| at >= begun) {
                // It may have ended meanwhile.
                let _ = knode_linux::signal::send_raw(pid, libc::SIGKILL);
            }
        }
        Ok(())
    }

    /// The process is the shim's to keep; it may have ended already.
    fn adopt(&mut self, what: What, pid: i32, started_at: i64) {
        match what {
            What::Container {
                id, mut container, ..
            } => {
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

/// What a creator that was killed has left is in the way of the next.
fn forget_earlier_try(start: &StartContainer) -> io::Result<()> {
    match std::fs::remove_dir_all(start.runtime_root.join(&start.id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn start_args(start: &StartContainer, console: Option<&Console>, joined: Option<&Joined>) -> CreateArgs {
    CreateArgs {
        id: start.id.clone(),
        runtime_root: start.runtime_root.clone(),
        target: Target::Bundle(start.bundle.clone()),
        console: console.map(|console| console.path.clone()),
        oom_score_adj: start.oom_score_adj,
        keeps_orphans: false,
        program: start.program.clone(),
        scope: start.scope.clone(),
        secluded: start.secluded.clone(),
        joined: joined.map(|joined| joined.id),
        queues_label: start.queues_label.clone(),
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
        scope: None,
        secluded: Vec::new(),
        joined: None,
        queues_label: None,
    }
}

/// Makes a creator of a copy of this process, which has one thread; gives its number and the read end of its status
/// pipe. It is not waited for by its number: all children are reaped in one place.
fn spawn(args: &CreateArgs, stdio: &Stdio3) -> io::Result<(i32, File)> {
    let (status, writer) = io::pipe()?;
    let writer = OwnedFd::from(writer);
    let Stdio3([stdin, stdout, stderr]) = stdio;
    let shim = std::process::id();
    let creator = process::fork(|| match process::keep_only([stdin, stdout, stderr], &writer) {
        Ok(status) => {
            create::run(args, status, shim);
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
