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

/// Gives the process the signal settings that a fresh program expects: nothing blocked and nothing ignored, whatever
/// its ancestors ignore (`nohup`, a shell's background jobs, Rust's start-up code SIGPIPE). For processes that are about
/// to execute another program.
///
/// # Errors
/// Those of `sigprocmask(2)` and `signal(2)`.
pub fn reset() -> io::Result<()> {
    nix::sys::signal::SigSet::all().thread_unblock()?;
    for signal in nix::sys::signal::Signal::iterator() {
        let fixed = matches!(signal as libc::c_int, libc::SIGKILL | libc::SIGSTOP);
        // SAFETY: SIG_DFL installs no function of ours.
        if !fixed && unsafe { libc::signal(signal as libc::c_int, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn what_an_ancestor_ignores_is_not_ignored_any_more() {
        let mut command = Command::new("grep");
        command.args(["SigIgn", "/proc/self/status"]);
        let as_under_nohup = || {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGPIPE] {
                // SAFETY: SIG_IGN installs no function of ours.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            reset()
        };
        // SAFETY: signal(2) and sigprocmask(2) are all that is called between fork and exec.
        unsafe { command.pre_exec(as_under_nohup) };
        let told = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let ignored = u64::from_str_radix(told.trim_start_matches("SigIgn:").trim(), 16).unwrap();
        // The C library ignores two signals of its own above 31.
        assert_eq!(ignored & 0x7fff_ffff, 0, "{told}");
    }
}
