//! A running daemon: how it was started, and how to start it again in the same way.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Why a daemon could not be looked at, ended or started.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("look at process {pid}")]
    Look { pid: i32, source: io::Error },
    #[error("end process {pid}")]
    End { pid: i32, source: nix::Error },
    #[error("start {program}")]
    Start { program: PathBuf, source: io::Error },
}

/// How a process was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    pub pid: i32,
    /// The file that it runs.
    pub program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
}

impl Daemon {
    /// Looks at a process.
    pub fn of(pid: i32) -> Result<Self, DaemonError> {
        Self::read(pid).map_err(|source| DaemonError::Look { pid, source })
    }

    fn read(pid: i32) -> io::Result<Self> {
        let of = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
        Ok(Self {
            pid,
            program: without_mark(fs::read_link(of("exe"))?),
            arguments: pieces(&fs::read(of("cmdline"))?).skip(1).collect(),
            environment: pieces(&fs::read(of("environ"))?).filter_map(pair).collect(),
            directory: fs::read_link(of("cwd"))?,
        })
    }

    /// The same in another process.
    pub fn as_process(&self, pid: i32) -> Self {
        Self { pid, ..self.clone() }
    }

    /// Whether a service manager starts it again when it ends: systemd names each run of a service.
    pub fn is_supervised(&self) -> bool {
        self.environment.iter().any(|(name, _)| name == "INVOCATION_ID")
    }

    /// Asks it to end; its pods go on running.
    pub fn end(&self) -> Result<(), DaemonError> {
        self.signal(Signal::SIGTERM)
    }

    /// Ends it at once.
    pub fn kill(&self) -> Result<(), DaemonError> {
        self.signal(Signal::SIGKILL)
    }

    fn signal(&self, signal: Signal) -> Result<(), DaemonError> {
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(source) => Err(DaemonError::End {
                pid: self.pid,
                source,
            }),
        }
    }

    /// Starts the program in its place as it was started, in the background, its output to the end of `log`.
    pub fn start_again(&self, log: &Path) -> Result<Child, DaemonError> {
        let start = || {
            let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
            Command::new(&self.program)
                .args(&self.arguments)
                .env_clear()
                .envs(self.environment.iter().cloned())
                .current_dir(&self.directory)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .process_group(0)
                .spawn()
        };
        start().map_err(|source| DaemonError::Start {
            program: self.program.clone(),
            source,
        })
    }
}

/// The kernel marks a running program whose file was replaced.
fn without_mark(program: PathBuf) -> PathBuf {
    let text = program.into_os_string().into_vec();
    let plain = text.strip_suffix(b" (deleted)").unwrap_or(&text).to_vec();
    OsString::from_vec(plain).into()
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = OsString> {
    let whole = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    whole
        .split(|byte| *byte == 0)
        .map(|piece| OsString::from_vec(piece.to_vec()))
}

fn pair(piece: OsString) -> Option<(OsString, OsString)> {
    let bytes = piece.into_vec();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (bytes[..at].to_vec(), bytes[at + 1..].to_vec());
    Some((OsString::from_vec(name), OsString::from_vec(value)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// The process once it has its arguments and its environment: the kernel shows them a moment after the program has
    /// begun.
    fn executed(child: &Child) -> Daemon {
        let started = Instant::now();
        loop {
            let seen = Daemon::of(child.id().cast_signed()).unwrap();
            if seen.arguments == ["60"] && !seen.environment.is_empty() {
                return seen;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{seen:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_is_started_again_as_it_was() {
        let directory = std::env::temp_dir().join(format!("knode-daemon-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut first = Command::new("/bin/sleep")
            .arg("60")
            .env_clear()
            .env("WORD", "a=b c")
            .current_dir(&directory)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let seen = executed(&first);
        assert!(!seen.is_supervised());
        seen.kill().unwrap();
        first.wait().unwrap();
        let mut again = seen.start_again(&directory.join("log")).unwrap();
        let twin = executed(&again);
        let told = |one: &Daemon| {
            (
                one.program.clone(),
                one.environment.clone(),
                one.directory.clone(),
            )
        };
        assert_eq!(told(&twin), told(&seen));
        twin.kill().unwrap();
        again.wait().unwrap();
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_replaced_program_is_named_by_its_place() {
        assert_eq!(
            without_mark("/usr/local/bin/knode (deleted)".into()),
            Path::new("/usr/local/bin/knode")
        );
        assert_eq!(
            without_mark("/usr/local/bin/knode".into()),
            Path::new("/usr/local/bin/knode")
        );
    }
}
