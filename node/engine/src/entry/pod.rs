//! The PID namespace that the containers of a pod share, and the process that keeps it.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::args::POD_WAIT;

/// Makes the namespace, starts its first process, prints its number as this namespace has it, and ends. The
/// process inherits standard input.
pub(super) fn init(users: Option<&Path>) -> io::Result<()> {
    if let Some(users) = users {
        super::users::join(users)?;
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWPID)?;
    let child = Command::new("/proc/self/exe")
        .arg(POD_WAIT)
        .env_clear()
        .stdin(Stdio::inherit())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    println!("{}", child.id());
    Ok(())
}

/// Reaps what containers leave behind, until standard input ends: then the shim wants it to, or is gone.
pub(super) fn wait() -> io::Result<()> {
    knode_linux::signal::reset()?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let input = io::stdin();
    // Fails for the leader of a group, which this is not.
    let _ = nix::unistd::setsid();
    knode_linux::memory::trim();
    loop {
        let mut polled = [
            PollFd::new(input.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
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
