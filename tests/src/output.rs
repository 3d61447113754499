//! What a command printed.

use std::fmt;
use std::process::Command;

/// A command's end and its output.
#[derive(Clone, Debug)]
pub struct Output {
    command: String,
    /// Exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let shown: Vec<_> = command
            .get_args()
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        let output = command
            .output()
            .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        Self {
            command: shown.join(" "),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// That of something that succeeded, with this standard output.
    pub(crate) fn told(stdout: String) -> Self {
        Self {
            command: String::new(),
            code: 0,
            stdout,
            stderr: String::new(),
        }
    }

    /// The standard output of a command that must have succeeded.
    ///
    /// # Panics
    /// With everything it printed, when it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout
    }

    /// The standard error of a command that must have failed.
    ///
    /// # Panics
    /// With everything it printed, when it succeeded.
    #[track_caller]
    pub fn fails(self) -> String {
        assert_ne!(self.code, 0, "should have failed: {self}");
        self.stderr
    }

    /// For `wait_until`: the output if it succeeded, everything it printed if not.
    pub fn result(self) -> Result<String, String> {
        if self.code == 0 {
            Ok(self.stdout)
        } else {
            Err(self.to_string())
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: exit code {}\n{}{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}
