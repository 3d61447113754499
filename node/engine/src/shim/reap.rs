//! Children that end.

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::containers::{Container, record_exit};
use super::protocol::{Exit, Message};
use super::{Shim, now_nanos};
use crate::crash;

/// A child that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) pid: i32,
    /// Exit code, or 128 + signal.
    pub(super) code: i32,
}

impl Shim {
    /// Reaps all children that have ended.
    pub(super) fn reap(&mut self) {
        while let Some(ended) = next_ended() {
            self.claim(ended);
        }
        if self.launches.is_empty() {
            self.unclaimed.clear();
        }
    }

    /// Finds whose end it is. While something is being launched it may be that of a process not known yet.
    pub(super) fn claim(&mut self, ended: Ended) {
        if let Some(id) = self.containers.by_pid(ended.pid) {
            self.container_ended(&id, ended.code);
        } else if let Some(index) = self.execs.iter().position(|exec| exec.pid == ended.pid) {
            crash::point("shim.exec-ended");
            let exec = self.execs.swap_remove(index);
            self.peers.send(
                None,
                &Message::ExecExited {
                    exec: exec.id,
                    code: ended.code,
                },
            );
            crash::point("shim.exec-told");
        } else if self.pod_init.as_ref().is_some_and(|init| init.pid == ended.pid) {
            // The namespace has ended with it, and all that was in there: who needs one gets another.
            self.pod_init = None;
        } else if let Some(index) = self
            .launches
            .iter()
            .position(|launch| launch.creator == ended.pid)
        {
            self.creator_ended(index);
        } else {
            self.unclaimed.push(ended);
        }
    }

    fn container_ended(&mut self, id: &str, code: i32) {
        let Some(mut container) = self.containers.all.remove(id) else {
            return;
        };
        // Before the last process ends: then systemd may take the group away.
        let oom_killed = self.oom_killed(id, &container);
        // Outside a PID namespace of its own its other processes live on.
        if let Err(error) = self.cgroups.kill(&container.cgroup) {
            eprintln!("killing what is left of {id}: {error}");
        }
        crash::point("shim.ended");
        container.io.drain();
        let exit = Exit {
            code,
            finished_at: now_nanos(),
            oom_killed,
        };
        let recorded = record_exit(&container.exit_file, &exit);
        crash::point("shim.recorded");
        self.peers.send(
            None,
            &Message::Exited {
                container: id.to_string(),
                exit,
            },
        );
        crash::point("shim.told");
        // The disk may take its time: nobody waits for it.
        if let Err(error) = recorded.and_then(|file| file.sync_data()) {
            eprintln!("recording the exit of {id}: {error}");
        }
        // Processes on their way out may still keep it; removing the container tries again.
        let _ = self.cgroups.remove(&container.cgroup);
    }

    fn oom_killed(&self, id: &str, container: &Container) -> bool {
        match self.cgroups.oom_kills(&container.cgroup) {
            Ok(kills) => kills > 0,
            Err(error) => {
                eprintln!("reading whether {id} ran out of memory: {error}");
                false
            }
        }
    }
}

fn next_ended() -> Option<Ended> {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => {
                return Some(Ended {
                    pid: pid.as_raw(),
                    code,
                });
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Some(Ended {
                    pid: pid.as_raw(),
                    code: 128 + signal as i32,
                });
            }
            Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return None,
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => {
                eprintln!("waiting for children: {error}");
                return None;
            }
        }
    }
}
