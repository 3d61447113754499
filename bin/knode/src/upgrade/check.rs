//! Whether a file can take a running knode's place; pure but for reading the file and asking its version.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// A program that does not tell its version in this time is none of ours.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not an ELF program")]
    NotAProgram { path: PathBuf },
    #[error("{path} is a program for another machine (ELF machine {theirs}, here {ours})")]
    Machine { path: PathBuf, theirs: u16, ours: u16 },
    #[error("run {path} --version")]
    Run { path: PathBuf, source: io::Error },
    #[error("{path} --version says {said:?}, not a version of knode")]
    NotKnode { path: PathBuf, said: String },
    #[error("{theirs} is older than {ours}, which runs; --allow-downgrade takes it all the same")]
    Older { theirs: String, ours: String },
}

/// A version: three numbers, and whether something stands behind them (`0.2.0-rc1` comes before `0.2.0`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    pre: Option<String>,
    text: String,
}

impl Version {
    /// The version in what `knode --version` prints, with or without the program's name.
    pub fn read(said: &str) -> Option<Self> {
        let text = said.trim().trim_start_matches("knode ").trim();
        let first = text.split_whitespace().next()?;
        let (plain, pre) = match first.split_once('-') {
            Some((plain, pre)) => (plain, Some(pre.to_owned())),
            None => (first, None),
        };
        let numbers: Vec<u64> = plain
            .split('+')
            .next()?
            .split('.')
            .map(|n| n.parse().ok())
            .collect::<Option<_>>()?;
        Some(Self {
            numbers: numbers.try_into().ok()?,
            pre,
            text: text.to_owned(),
        })
    }

    fn older_than(&self, other: &Self) -> bool {
        let by_number = self.numbers.cmp(&other.numbers);
        let by_pre = match (&self.pre, &other.pre) {
            (None, None) => Ordering::Equal,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.cmp(b),
        };
        by_number.then(by_pre) == Ordering::Less
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Refuses an older version than the running one, unless that is wanted.
pub fn not_older(theirs: &Version, ours: &Version, allow: bool) -> Result<(), CheckError> {
    if allow || !theirs.older_than(ours) {
        return Ok(());
    }
    Err(CheckError::Older {
        theirs: theirs.to_string(),
        ours: ours.to_string(),
    })
}

/// Refuses what is no program for this machine.
pub fn program(path: &Path) -> Result<(), CheckError> {
    let (theirs, ours) = (machine(path)?, machine(Path::new("/proc/self/exe"))?);
    if theirs == ours {
        return Ok(());
    }
    Err(CheckError::Machine {
        path: path.to_owned(),
        theirs,
        ours,
    })
}

fn machine(path: &Path) -> Result<u16, CheckError> {
    let mut head = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    match read {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(CheckError::NotAProgram {
                path: path.to_owned(),
            });
        }
        Err(source) => {
            return Err(CheckError::Read {
                path: path.to_owned(),
                source,
            });
        }
    }
    if !head.starts_with(b"\x7fELF") {
        return Err(CheckError::NotAProgram {
            path: path.to_owned(),
        });
    }
    // e_machine, in the byte order that e_ident names.
    Ok(if head[5] == 2 {
        u16::from_be_bytes([head[18], head[19]])
    } else {
        u16::from_le_bytes([head[18], head[19]])
    })
}

/// What the program calls itself.
pub async fn version(path: &Path) -> Result<Version, CheckError> {
    let run = |source| CheckError::Run {
        path: path.to_owned(),
        source,
    };
    let mut command = tokio::process::Command::new(path);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .map_err(|_| run(io::ErrorKind::TimedOut.into()))?
        .map_err(run)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let refused = |said| CheckError::NotKnode {
        path: path.to_owned(),
        said,
    };
    if !output.status.success() || !said.starts_with("knode ") {
        return Err(refused(said));
    }
    Version::read(&said).ok_or_else(|| refused(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn older(theirs: &str, ours: &str) -> bool {
        let read = |text| Version::read(text).unwrap();
        not_older(&read(theirs), &read(ours), false).is_err()
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(!older(
            "knode 0.1.0 (Kubernetes v1.36.2)",
            "0.1.0 (Kubernetes v1.36.2)"
        ));
        assert!(!older("0.10.0", "0.9.1"));
        assert!(older("0.9.9", "0.10.0"));
        assert!(older("0.2.0-rc1", "0.2.0"));
        assert!(!older("0.2.0", "0.2.0-rc1"));
        assert!(
            not_older(
                &Version::read("0.1.0").unwrap(),
                &Version::read("0.2.0").unwrap(),
                true
            )
            .is_ok()
        );
    }

    #[test]
    fn what_is_no_version() {
        for text in ["", "knode", "nginx version 1.2", "1.2"] {
            assert_eq!(Version::read(text), None, "{text}");
        }
    }

    #[test]
    fn programs_for_this_machine() {
        program(Path::new("/proc/self/exe")).unwrap();
        let directory = std::env::temp_dir().join(format!("knode-check-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let script = directory.join("script");
        std::fs::write(&script, "#!/bin/sh\necho knode 9.9.9\n").unwrap();
        assert!(matches!(program(&script), Err(CheckError::NotAProgram { .. })));
        let foreign = directory.join("foreign");
        let mut bytes = std::fs::read("/proc/self/exe").unwrap();
        bytes[18] ^= 0xff;
        std::fs::write(&foreign, &bytes[..64]).unwrap();
        let refused = program(&foreign).unwrap_err().to_string();
        assert!(refused.contains("another machine"), "{refused}");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn another_program_is_none_of_ours() {
        let refused = version(Path::new("/bin/true")).await.unwrap_err();
        assert!(matches!(refused, CheckError::NotKnode { .. }), "{refused}");
    }
}
