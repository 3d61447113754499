//! Runs the programs of iptables, for hosts that demand it, in the network namespace of the thread that calls.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use tokio::io::AsyncWriteExt as _;

use crate::IpFamily;

/// How long, in seconds, a program waits for another that holds the lock.
const WAIT: &str = "5";
/// Where the programs stand where the path does not say so, as that of a service may not.
const MORE_PATHS: &str = "/usr/sbin:/sbin:/usr/local/sbin";

/// Why iptables did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not installed.
    #[error("{program} is not installed")]
    Missing {
        /// Which program.
        program: String,
    },
    /// It could not be started, or did not read its input.
    #[error("cannot run {program}")]
    Run {
        /// Which program.
        program: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It refused.
    #[error("{program} failed with {status}: {said}")]
    Failed {
        /// Which program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
}

/// The variants that a host may have, by what stands behind `iptables`.
pub const VARIANTS: [&str; 3] = ["", "-nft", "-legacy"];

/// The programs of one family and variant.
#[derive(Debug, Clone)]
pub struct Programs {
    plain: String,
    save: String,
    restore: String,
}

impl Programs {
    /// Their names; `variant` is one of [`VARIANTS`].
    pub fn of(family: IpFamily, variant: &str) -> Self {
        let base = match family {
            IpFamily::V4 => "iptables",
            IpFamily::V6 => "ip6tables",
        };
        let named = |what: &str| format!("{base}{variant}{what}");
        Self {
            plain: named(""),
            save: named("-save"),
            restore: named("-restore"),
        }
    }

    /// The name of the first, without `-save` or `-restore`.
    pub fn name(&self) -> &str {
        &self.plain
    }

    /// Whether they are all installed.
    ///
    /// # Errors
    /// [`Error::Missing`] with the first that is not.
    pub fn check(&self) -> Result<(), Error> {
        let mut all = [&self.restore, &self.save, &self.plain].into_iter();
        all.try_for_each(|program| find(program).map(|_| ()))
    }

    /// What stands in the tables.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn save(&self) -> Result<String, Error> {
        let output = bound(command(&self.save, &[])?).output().await;
        text(&self.save, output)
    }

    /// Applies a text; what it does not name stays.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn restore(&self, input: &str) -> Result<(), Error> {
        let ran = |source| Error::Run {
            program: self.restore.clone(),
            source,
        };
        let mut child = bound(self.restore_command()?).spawn().map_err(ran)?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that refuses the text stops reading; what it says tells why.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        text(&self.restore, output).map(drop)
    }

    /// Whether a chain is there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn has_chain(&self, table: &str, chain: &str) -> Result<bool, Error> {
        let list = command(&self.plain, &["-w", WAIT, "-t", table, "-S", chain, "1"])?;
        match text(&self.plain, bound(list).output().await) {
            Ok(_) => Ok(true),
            Err(Error::Failed { status, .. }) if status.code() == Some(1) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What stands in one table, or in all, waiting for it on this thread.
    ///
    /// # Errors
    /// [`Error`].
    pub fn save_now(&self, table: Option<&str>) -> Result<String, Error> {
        let only = table.map(|table| ["-t", table]);
        let output = command(&self.save, only.as_ref().map_or(&[], |only| &only[..]))?.output();
        text(&self.save, output)
    }

    /// [`Programs::restore`], waiting for it on this thread.
    ///
    /// # Errors
    /// [`Error`].
    pub fn restore_now(&self, input: &str) -> Result<(), Error> {
        let feed = |mut child: Child| {
            if let Some(mut stdin) = child.stdin.take() {
                // As above.
                let _ = stdin.write_all(input.as_bytes());
            }
            child.wait_with_output()
        };
        text(&self.restore, self.restore_command()?.spawn().and_then(feed)).map(drop)
    }

    fn restore_command(&self) -> Result<Command, Error> {
        let mut command = command(&self.restore, &["-w", WAIT, "--noflush"])?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Ok(command)
    }
}

/// A program that reads nothing.
fn command(program: &str, arguments: &[&str]) -> Result<Command, Error> {
    let mut command = Command::new(find(program)?);
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// A program that ends with whoever waits for it.
fn bound(command: Command) -> tokio::process::Command {
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    command
}

fn find(program: &str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(std::env::split_paths(MORE_PATHS));
    let mut found = directories.map(|directory| directory.join(program));
    found.find(|path| path.is_file()).ok_or_else(|| Error::Missing {
        program: program.to_owned(),
    })
}

/// What a program printed, if it did what it was told.
fn text(program: &str, output: std::io::Result<Output>) -> Result<String, Error> {
    let program = program.to_owned();
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(Error::Failed {
            program,
            status: output.status,
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
        Err(source) => Err(Error::Run { program, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_is_named() {
        let programs = Programs::of(IpFamily::V6, "-of-nobody");
        for error in [programs.check(), programs.save_now(None).map(drop)] {
            let said = error.expect_err("nobody has it").to_string();
            assert!(said.starts_with("ip6tables-of-nobody-"), "{said}");
            assert!(said.ends_with(" is not installed"), "{said}");
        }
    }
}
