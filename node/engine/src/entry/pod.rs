//! The PID namespace that the containers of a pod share, and the process that keeps it. Both processes are copies of
//! the shim: executing this large program anew takes longer than all that they do, and memory besides.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use knode_linux::{memory, process};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::crash;

/// How long after its beginning the namespace's first process gives memory back.
const REST_AFTER: Duration = Duration::from_secs(5);

/// Makes the namespace, in the user namespace at `users` if there is one, starts its first process, and prints its
/// number as this namespace has it, or why there is none. The process ends when `alive` does.
pub(crate) fn init(users: Option<&Path>, alive: &OwnedFd) -> io::Result<()> {
    let mut output = io::stdout();
    match make(users, alive) {
        Ok(pid) => writeln!(output, "{pid}"),
        Err(error) => writeln!(output, "{error}"),
    }
}

fn make(users: Option<&Path>, alive: &OwnedFd) -> io::Result<i32> {
    crash::point("pod.begin");
    if let Some(users) = users {
        super::users::join(users)?;
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWPID)?;
    crash::point("pod.unshared");
    let first = process::fork(|| match keep_namespace(alive) {
        Ok(()) => 0,
        Err(_) => 1,
    });
    crash::point("pod.forked");
    first
}

fn keep_namespace(alive: &OwnedFd) -> io::Result<()> {
    crash::point("pod.first");
    let null = OwnedFd::from(File::options().read(true).write(true).open("/dev/null")?);
    let alive = process::keep_only([&null, &null, &null], alive)?;
    // Closed with all others.
    std::mem::forget(null);
    wait(&alive)
}

/// Reaps what containers leave behind, until `alive` ends: then the shim wants it to, or is gone.
fn wait(alive: &OwnedFd) -> io::Result<()> {
    knode_linux::signal::reset()?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    // Fails for the leader of a group, which this is not.
    let _ = nix::unistd::setsid();
    crash::point("pod.waiting");
    let mut until_rest = PollTimeout::try_from(REST_AFTER).unwrap_or(PollTimeout::MAX);
    loop {
        let mut polled = [
            PollFd::new(alive.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, until_rest) {
            Ok(0) => {
                until_rest = PollTimeout::NONE;
                // What cannot be given back is kept: nobody is there to tell.
                let _ = memory::rest();
                continue;
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if polled[0].any().unwrap_or(false) {
            return Ok(());
        }
        // The signal only says that there is something to reap.
        while let Ok(Some(_)) = signals.read_signal() {}
        while reaped()? {}
    }
}

/// True when there was something to reap.
fn reaped() -> io::Result<bool> {
    match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => Ok(false),
        Ok(_) | Err(nix::Error::EINTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
