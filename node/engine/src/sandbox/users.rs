//! Namespaces of a pod with users of its own.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use knode_linux::namespace;
use nix::mount::MsFlags;

use crate::entry::args::users_command_line;
use crate::entry::users::Settings;
use crate::spec::idmap::IdMaps;

/// Name of the pinned user namespace.
pub(super) const USER: &str = "user";

/// Makes the pod's namespaces and pins each in `directory`.
///
/// # Errors
/// Those of the kernel; nothing stays pinned then.
pub(super) fn make(self_exe: &Path, directory: &Path, maps: &IdMaps, settings: &Settings) -> io::Result<()> {
    let mut command = Command::new(self_exe);
    command
        .args(users_command_line(settings)?)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    crate::crash::inherit(&mut command);
    let mut child = command.spawn()?;
    let made = pin(&mut child, directory, maps);
    // It ends with its standard input.
    drop(child.stdin.take());
    child.wait()?;
    if made.is_err() {
        for name in [USER, "net", "ipc", "uts"] {
            // The first error is the one to report.
            let _ = namespace::unpin(&directory.join(name));
        }
    }
    made
}

fn pin(child: &mut Child, directory: &Path, maps: &IdMaps) -> io::Result<()> {
    let missing = || io::Error::other("no pipe to the process that makes the namespaces");
    let mut output = BufReader::new(child.stdout.take().ok_or_else(missing)?);
    let process = Path::new("/proc").join(child.id().to_string());
    expect(&mut output, "users")?;
    fs::write(process.join("uid_map"), maps.uids.line())?;
    fs::write(process.join("gid_map"), maps.gids.line())?;
    child.stdin.as_mut().ok_or_else(missing)?.write_all(b"m")?;
    expect(&mut output, "ready")?;
    for name in [USER, "net", "ipc", "uts"] {
        bind(&process.join("ns").join(name), &directory.join(name))?;
    }
    Ok(())
}

fn expect(output: &mut impl BufRead, word: &str) -> io::Result<()> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    match line.trim_end() {
        said if said == word => Ok(()),
        "" => Err(io::Error::other("the kernel makes no user namespaces")),
        said => Err(io::Error::other(said.trim_start_matches("error ").to_string())),
    }
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    fs::File::create(target)?;
    let none: Option<&str> = None;
    Ok(nix::mount::mount(
        Some(source),
        target,
        none,
        MsFlags::MS_BIND,
        none,
    )?)
}
