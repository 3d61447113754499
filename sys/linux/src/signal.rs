//! Signals by number, the real-time ones too.
#![allow(unsafe_code)]

use std::io;

/// Sends signal `signal` to the process `pid`, or to the process group `-pid` of a negative one. A process that has ended meanwhile is no error.
///
/// # Errors
/// `InvalidInput` for a number that is no signal, and those of `kill(2)`.
pub fn send_raw(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two numbers and touches no memory of this process.
    if unsafe { libc::kill(pid, signal) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        error => Err(error),
    }
}

/// Gives the process the signal settings that a fresh program expects: nothing blocked, and SIGPIPE ends it
/// (Rust's start-up code ignores it). For processes that are about to execute another program.
///
/// # Errors
/// Those of `sigprocmask(2)` and `signal(2)`.
pub fn reset() -> io::Result<()> {
    nix::sys::signal::SigSet::all().thread_unblock()?;
    // SAFETY: SIG_DFL installs no function of ours.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
