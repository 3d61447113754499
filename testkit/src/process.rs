//! Child processes that do not outlive the test.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::scratch::Scratch;
use crate::wait::wait_until;

/// A process in a group of its own, with its output in a file. Dropping it kills the group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
    _scratch: Scratch,
}

impl Process {
    /// Starts `command`; standard output and error go to one file that [`Process::output`] reads.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(name: &str, mut command: Command) -> Self {
        let scratch = Scratch::new(name);
        let output = scratch.join("output");
        let file =
            File::create(&output).unwrap_or_else(|error| panic!("cannot make {}: {error}", output.display()));
        let errors = file
            .try_clone()
            .unwrap_or_else(|error| panic!("cannot share {}: {error}", output.display()));
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .process_group(0);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Self {
            name: name.to_owned(),
            child,
            output,
            _scratch: scratch,
        }
    }

    /// Its process id, which is also its group's.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        let mut bytes = Vec::new();
        match File::open(&self.output).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("(output of {} unreadable: {error})", self.name),
        }
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        if let Err(error) = nix::sys::signal::kill(self.pid(), signal) {
            eprintln!("{}: cannot send {signal}: {error}", self.name);
        }
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When it does not within `bound`.
    #[track_caller]
    pub fn wait(&mut self, bound: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        wait_until(&what, bound, || self.exited())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group may be gone already; then there is nothing to kill.
        let _gone = killpg(self.pid(), Signal::SIGKILL);
        if let Err(error) = self.child.wait() {
            eprintln!("{}: cannot wait for it: {error}", self.name);
        }
    }
}
