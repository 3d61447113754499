//! The namespaces of a pod with users of its own. The kernel makes a user namespace only for a process without
//! threads, so the daemon has this program make them, and pins them while it waits.
//!
//! It says `users` when there is a user namespace, goes on when it is told that its numbers are mapped, says `ready`
//! or `error …`, and ends when standard input does.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};

use crate::crash;

/// What is set in the namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Host name.
    pub(crate) hostname: String,
    /// Kernel parameters that must be set, by their dotted names.
    pub(crate) sysctls: Vec<(String, String)>,
    /// Kernel parameters that may be missing or refused.
    pub(crate) wishes: Vec<(String, String)>,
}

/// See the module.
pub(super) fn hold(settings: &str) -> io::Result<()> {
    let settings: Settings = serde_json::from_str(settings)?;
    crash::point("users.begin");
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER)?;
    say("users")?;
    io::stdin().read_exact(&mut [0])?;
    crash::point("users.mapped");
    match make(&settings) {
        Ok(()) => say("ready")?,
        Err(error) => say(&format!("error {error}"))?,
    }
    io::stdin().read_to_end(&mut Vec::new()).map(|_| ())
}

fn say(word: &str) -> io::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "{word}")?;
    output.flush()
}

fn make(settings: &Settings) -> io::Result<()> {
    become_root()?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?;
    nix::unistd::sethostname(&settings.hostname)?;
    knode_linux::loopback::up()?;
    for (name, value) in &settings.wishes {
        // Kernels without the parameter have no such restriction to lift.
        let _ = set_sysctl(name, value);
    }
    settings
        .sysctls
        .iter()
        .try_for_each(|(name, value)| set_sysctl(name, value))
}

fn become_root() -> io::Result<()> {
    nix::unistd::setgroups(&[])?;
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    nix::unistd::setresgid(group, group, group)?;
    Ok(nix::unistd::setresuid(user, user, user)?)
}

/// Sets a kernel parameter by its dotted name.
pub(crate) fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
    let context = |error: io::Error| io::Error::new(error.kind(), format!("sysctl {name}={value}: {error}"));
    std::fs::write(path, value).map_err(context)
}

/// Joins the user namespace at `path` as its root.
pub(super) fn join(path: &Path) -> io::Result<()> {
    nix::sched::setns(File::open(path)?, CloneFlags::CLONE_NEWUSER)?;
    become_root()
}
