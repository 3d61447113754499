//! Starting a shim.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::entry::args::shim_command_line;
use crate::shim::ShimArgs;

/// Starts a shim that listens on `socket` and complains into `log`. It can be connected to at once, because
/// the socket is made here.
///
/// # Errors
/// Those of making the socket and of executing the program.
///
/// # Panics
/// Outside a tokio runtime.
pub(crate) fn spawn(self_exe: &Path, cgroup_root: &Path, socket: &Path, log: &Path) -> io::Result<()> {
    if let Err(error) = std::fs::remove_file(socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(socket)?;
    let log = OpenOptions::new().append(true).create(true).open(log)?;
    let args = ShimArgs {
        cgroup_root: cgroup_root.to_path_buf(),
    };
    let mut command = Command::new(self_exe);
    command
        .arg0("knode")
        .args(shim_command_line(&args))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(log.try_clone()?)
        .stderr(log);
    crate::crash::inherit(&mut command);
    // Dropped children are reaped by tokio when they end; that end is noticed by the connection.
    tokio::process::Command::from(command).spawn()?;
    Ok(())
}
