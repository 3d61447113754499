//! Runs the programs of iptables.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};

use tokio::io::AsyncWriteExt as _;

use crate::model::IpFamily;

/// How long, in seconds, a program waits for another that holds the lock.
const WAIT: &str = "5";
/// Where the programs stand where the path does not say so, as that of a service may not.
const MORE_PATHS: &str = "/usr/sbin:/sbin:/usr/local/sbin";

/// Why iptables did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    /// It is not installed.
    #[error(
        "the proxy mode iptables needs {program}, which is not installed; the mode nftables needs no program"
    )]
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
    /// Tracked flows could not be looked at or deleted.
    #[error("cannot end the tracked flows of endpoints that are gone")]
    Conntrack(#[source] knode_nft::Error),
}

/// The variants that a host may have, by what stands behind `iptables`.
pub(in crate::apply) const VARIANTS: [&str; 3] = ["", "-nft", "-legacy"];

/// The programs of one family and variant.
#[derive(Debug, Clone)]
pub(in crate::apply) struct Programs {
    plain: String,
    save: String,
    restore: String,
}

impl Programs {
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

    /// Whether they are all installed; the first that is not.
    pub fn check(&self) -> Result<(), IptablesError> {
        let mut all = [&self.restore, &self.save, &self.plain].into_iter();
        all.try_for_each(|program| find(program).map(|_| ()))
    }

    /// What stands in the tables.
    pub async fn save(&self) -> Result<String, IptablesError> {
        let output = tokio::process::Command::new(find(&self.save)?)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await;
        text(&self.save, output)
    }

    /// Applies a text; what it does not name stays.
    pub async fn restore(&self, input: &str) -> Result<(), IptablesError> {
        let ran = |source| IptablesError::Run {
            program: self.restore.clone(),
            source,
        };
        let mut child = tokio::process::Command::new(find(&self.restore)?)
            .args(["-w", WAIT, "--noflush"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(ran)?;
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
    pub async fn has_chain(&self, table: &str, chain: &str) -> Result<bool, IptablesError> {
        let output = tokio::process::Command::new(find(&self.plain)?)
            .args(["-w", WAIT, "-t", table, "-S", chain, "1"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await;
        match text(&self.plain, output) {
            Ok(_) => Ok(true),
            Err(IptablesError::Failed { status, .. }) if status.code() == Some(1) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// [`Programs::save`], waiting for it on this thread.
    pub fn save_now(&self) -> Result<String, IptablesError> {
        let output = std::process::Command::new(find(&self.save)?)
            .stdin(Stdio::null())
            .output();
        text(&self.save, output)
    }

    /// [`Programs::restore`], waiting for it on this thread.
    pub fn restore_now(&self, input: &str) -> Result<(), IptablesError> {
        let run = || {
            let mut child = std::process::Command::new(find_io(&self.restore)?)
                .args(["-w", WAIT, "--noflush"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // As above.
                let _ = stdin.write_all(input.as_bytes());
            }
            child.wait_with_output()
        };
        text(&self.restore, run()).map(drop)
    }
}

fn find(program: &str) -> Result<PathBuf, IptablesError> {
    find_io(program).map_err(|_| IptablesError::Missing {
        program: program.to_owned(),
    })
}

fn find_io(program: &str) -> std::io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(std::env::split_paths(MORE_PATHS));
    let mut found = directories.map(|directory| directory.join(program));
    found
        .find(|path| path.is_file())
        .ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

/// What a program printed, if it did what it was told.
fn text(program: &str, output: std::io::Result<Output>) -> Result<String, IptablesError> {
    let program = program.to_owned();
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(IptablesError::Failed {
            program,
            status: output.status,
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
        Err(source) => Err(IptablesError::Run { program, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_iptables_is_refused_by_name() {
        let programs = Programs::of(IpFamily::V4, "-of-nobody");
        let error = programs.check().expect_err("nobody has it");
        assert_eq!(
            error.to_string(),
            "the proxy mode iptables needs iptables-of-nobody-restore, which is not installed; \
             the mode nftables needs no program"
        );
    }
}
