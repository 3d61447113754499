//! Answering the daemon.

use std::io;

use nix::unistd::Pid;

use super::attach::Attached;
use super::peers::Received;
use super::protocol::{self, Answer, Command, Message};
use super::{Shim, tree};
use crate::crash;

impl Shim {
    /// Does what a request asks.
    pub(super) fn handle(&mut self, received: Received) {
        let Received { peer, request } = received;
        let seq = request.seq;
        let answer = match &request.command {
            Command::Start(start) => later(self.start_container(peer, seq, start)),
            Command::Exec(start) => later(self.start_exec(peer, seq, start)),
            Command::Signal {
                container,
                signal,
                all,
            } => Some(self.signal(container, *signal, *all)),
            Command::SignalExec { exec, signal } => Some(self.signal_exec(exec, *signal)),
            Command::ReopenLog { container } => Some(self.reopen_log(container)),
            Command::Attach(request) => Some(self.attach(peer, request)),
            Command::Resize {
                container,
                columns,
                rows,
            } => Some(self.resize(container, *columns, *rows)),
            Command::PodPidNamespace => Some(self.pod_pid_namespace(None)),
            Command::PodPidNamespaceOf { users } => Some(self.pod_pid_namespace(Some(users))),
            Command::ListNow => Some(Answer::Containers(self.containers.list())),
            Command::List => {
                self.list(peer, seq);
                None
            }
            Command::Shutdown => {
                self.shutdown(peer, seq);
                None
            }
        };
        if let Some(answer) = answer {
            self.peers.send(Some(peer), &Message::Answer { seq, answer });
        }
    }

    /// Lists the containers once nothing is being started any more, so that whoever asks is told everything. What
    /// earlier peers have asked for comes first: a daemon that died may have left a request on its way.
    fn list(&mut self, peer: u64, seq: u64) {
        for earlier in self.peers.before(peer) {
            for received in self.peers.read(earlier) {
                self.handle(received);
            }
        }
        self.lists.push((peer, seq));
        self.answer_lists();
    }

    /// Answers those who wait for a list, if there is nothing to wait for.
    pub(super) fn answer_lists(&mut self) {
        if !self.launches.is_empty() {
            return;
        }
        for (peer, seq) in std::mem::take(&mut self.lists) {
            let answer = Answer::Containers(self.containers.list());
            self.peers.send(Some(peer), &Message::Answer { seq, answer });
        }
    }

    fn signal(&mut self, id: &str, signal: i32, all: bool) -> Answer {
        let Some(container) = self.containers.all.get(id) else {
            return Answer::Unknown;
        };
        crash::point("shim.signalled");
        if all && signal == libc::SIGKILL {
            return done(self.cgroups.kill(&container.cgroup));
        }
        done(send_signal(container.pid, signal, false))
    }

    fn signal_exec(&mut self, id: &str, signal: i32) -> Answer {
        let Some(exec) = self.execs.iter().find(|exec| exec.id == id) else {
            return Answer::Unknown;
        };
        if signal != libc::SIGKILL {
            return done(send_signal(exec.pid, signal, true));
        }
        let pid = exec.pid;
        let groups: Vec<_> = self
            .containers
            .all
            .values()
            .map(|container| container.cgroup.clone())
            .collect();
        let processes = || {
            let lists = groups.iter().map(|group| self.cgroups.processes(group));
            Ok(lists.collect::<io::Result<Vec<_>>>()?.concat())
        };
        done(tree::kill(pid, processes))
    }

    fn reopen_log(&mut self, id: &str) -> Answer {
        match self.containers.all.get_mut(id) {
            Some(container) => done(container.io.log.reopen()),
            None => Answer::Unknown,
        }
    }

    fn attach(&mut self, peer: u64, request: &protocol::Attach) -> Answer {
        let Some(fds) = self.peers.take_fds(peer, Attached::count(request)) else {
            return Answer::Failed {
                message: "the request came without its descriptors".into(),
            };
        };
        let Some(container) = self.containers.all.get_mut(&request.container) else {
            return Answer::Unknown;
        };
        let attached = Attached::new(request, fds);
        done(attached.map(|client| container.io.attached.push(client)))
    }

    fn resize(&mut self, id: &str, columns: u16, rows: u16) -> Answer {
        let terminal = self
            .containers
            .all
            .get(id)
            .and_then(|container| container.io.terminal.as_ref());
        match terminal {
            Some(terminal) => done(knode_linux::tty::resize(terminal, columns, rows)),
            None => Answer::Unknown,
        }
    }

    /// Begins to end. What the daemon doesn't know of (it may have died while something was being started) is
    /// killed first.
    fn shutdown(&mut self, peer: u64, seq: u64) {
        crash::point("shim.shutdown");
        self.end_asked = Some((peer, seq));
        self.kill_all();
        self.end_if_idle();
    }

    fn kill_all(&self) {
        for (id, container) in &self.containers.all {
            if let Err(error) = self.cgroups.kill(&container.cgroup) {
                eprintln!("killing {id}: {error}");
            }
        }
    }

    /// Ends when that was asked for and nothing runs or is being started any more.
    pub(super) fn end_if_idle(&mut self) {
        let Some((peer, seq)) = self.end_asked else { return };
        if !self.launches.is_empty() {
            return;
        }
        if !self.containers.all.is_empty() {
            // One that was still being started when the end was asked for.
            return self.kill_all();
        }
        self.pod_init = None;
        self.ending = true;
        self.peers.send(
            Some(peer),
            &Message::Answer {
                seq,
                answer: Answer::Done,
            },
        );
    }
}

/// Starting is answered later unless it cannot even begin.
fn later(begun: io::Result<()>) -> Option<Answer> {
    begun.err().map(|error| Answer::Failed {
        message: error.to_string(),
    })
}

fn done(result: io::Result<()>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Failed {
            message: error.to_string(),
        },
    }
}

/// The process is an unreaped child, so its number cannot have been given to another.
fn send_signal(pid: i32, signal: i32, group: bool) -> io::Result<()> {
    knode_linux::signal::send_raw(if group { -group_of(pid) } else { pid }, signal)
}

/// The process group of a command; some runtimes make its leader a process that has ended. Never the shim's own.
fn group_of(pid: i32) -> i32 {
    let group = nix::unistd::getpgid(Some(Pid::from_raw(pid)));
    let others = group.ok().filter(|group| *group != nix::unistd::getpgrp());
    others.map_or(pid, Pid::as_raw)
}
