//! Disks: probed, given a file system where there is nothing on them, checked and mounted, by the host's programs
//! (`blkid`, `mkfs.<type>`, `fsck`), as upstream's kubelet does.

mod plan;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use nix::errno::Errno;
use nix::libc;
use tokio::process::Command;

use plan::{Found, Step};

/// Where programs lie.
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// Bytes at either end of a disk that must be readable before anything is written.
const ENDS: usize = 64 * 1024;

/// How often a file system is made until that is given up.
const ATTEMPTS: u32 = 3;

/// Why a disk could not be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("the host's program {0} is not there")]
    NoProgram(String),
    #[error("{program}: {source}")]
    Run {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the disk, nothing is written to it: {0}")]
    Unreadable(#[source] io::Error),
    #[error("the disk is in use")]
    InUse,
    #[error("{program} failed ({status}): {said}")]
    Failed {
        program: String,
        status: String,
        said: String,
    },
    #[error("blkid cannot say what the disk holds ({}): {said}", status_text(*.status))]
    Probe { status: Option<i32>, said: String },
    #[error("the disk holds {0}, which is no file system; it is left alone")]
    Foreign(String),
    #[error("cannot mount unformatted disk as it is read-only")]
    Unformatted,
    #[error("{0:?} is no type of file systems")]
    Type(String),
    #[error("'fsck' found errors on device but could not correct them: {0}")]
    Damaged(String),
    #[error("failed to mount the volume as {wanted:?}, it already contains {found}. Mount error: {errno}")]
    Mismatch {
        wanted: String,
        found: String,
        errno: Errno,
    },
    #[error("mount as {kind}: {errno}")]
    Mount { kind: String, errno: Errno },
    #[error("the mount was given up")]
    Lost,
}

fn status_text(status: Option<i32>) -> String {
    status.map_or("a signal".to_owned(), |status| format!("status {status}"))
}

/// How a disk is wanted.
pub(crate) struct Wanted<'a> {
    /// The type of its file system; without, what is there, or ext4.
    pub kind: Option<&'a str>,
    /// Options of the mount.
    pub options: &'a [String],
    /// It is for reading alone, so that none is made.
    pub read_only: bool,
}

/// Mounts `disk` at `target`. A file system is made only where `blkid` finds nothing at all, the disk can be read, and
/// nobody else uses it.
pub(crate) async fn mount(disk: &Path, target: &Path, wanted: &Wanted<'_>) -> Result<(), DiskError> {
    let found = probe(disk).await?;
    let (flags, rest) = plan::split(wanted.options);
    let read_only = wanted.read_only || flags.contains(nix::mount::MsFlags::MS_RDONLY);
    let step = plan::step(found.clone(), wanted.kind, read_only)?;
    match &step {
        Step::Format(kind) => format_blank(disk, kind).await?,
        Step::Check(_) => check(disk).await?,
        Step::Mount(_) => {}
    }
    let kind = step.kind().to_owned();
    let (source, target, as_kind) = (disk.to_owned(), target.to_owned(), kind.clone());
    let mounted = tokio::task::spawn_blocking(move || {
        nix::mount::mount(
            Some(&source),
            &target,
            Some(as_kind.as_str()),
            flags,
            Some(rest.as_str()),
        )
    });
    let failed = match mounted.await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(errno)) => errno,
        Err(_) => return Err(DiskError::Lost),
    };
    Err(match found {
        Found::FileSystem(found) if found != kind => DiskError::Mismatch {
            wanted: kind,
            found,
            errno: failed,
        },
        _ => DiskError::Mount { kind, errno: failed },
    })
}

/// What is on the disk: each probe of blkid's is asked, not only those for file systems.
async fn probe(disk: &Path) -> Result<Found, DiskError> {
    let output = run("blkid", &["-p", "-o", "export"], disk).await?;
    let said = match output.stdout.is_empty() {
        true => &output.stderr,
        false => &output.stdout,
    };
    let found = plan::found(output.status.code(), &String::from_utf8_lossy(said))?;
    if found == Found::Nothing {
        // blkid says the same of a disk that it cannot read.
        let disk = disk.to_owned();
        let looked = tokio::task::spawn_blocking(move || readable(&disk));
        looked.await.map_err(|_| DiskError::Lost)??;
    }
    Ok(found)
}

/// Makes a file system on a disk with nothing on it. A program that another thread is about to execute has, for a moment,
/// all that this process has open: the disk that was just probed counts as in use then, and is tried again while there is
/// nothing on it.
async fn format_blank(disk: &Path, kind: &str) -> Result<(), DiskError> {
    for _ in 1..ATTEMPTS {
        let Err(error) = format(disk, kind).await else {
            return Ok(());
        };
        tracing::info!(disk = %disk.display(), %error, "making a file system is tried again");
        if probe(disk).await? != Found::Nothing {
            return Err(error);
        }
    }
    format(disk, kind).await
}

/// Reads both ends of a disk that nobody else uses.
fn readable(disk: &Path) -> Result<(), DiskError> {
    let mut options = OpenOptions::new();
    let opened = options
        .read(true)
        .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
        .open(disk);
    let mut file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => DiskError::InUse,
        _ => DiskError::Unreadable(error),
    })?;
    let size = file.seek(SeekFrom::End(0)).map_err(DiskError::Unreadable)?;
    let last = size.saturating_sub(ENDS as u64);
    for start in [0, last] {
        read_at(&mut file, start).map_err(DiskError::Unreadable)?;
    }
    Ok(())
}

fn read_at(file: &mut File, start: u64) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(ENDS);
    file.seek(SeekFrom::Start(start))?;
    match file.take(ENDS as u64).read_to_end(&mut buffer)? {
        0 => Err(io::Error::other("it is empty")),
        _ => Ok(()),
    }
}

async fn format(disk: &Path, kind: &str) -> Result<(), DiskError> {
    let program = format!("mkfs.{kind}");
    tracing::info!(disk = %disk.display(), kind, "making a file system: there is nothing on the disk");
    let output = run(&program, plan::mkfs_words(kind), disk).await?;
    match output.status.success() {
        true => Ok(()),
        false => Err(DiskError::Failed {
            program,
            status: output.status.to_string(),
            said: said(&output),
        }),
    }
}

/// Lets `fsck` repair what it can without asking. A host that has none goes without.
async fn check(disk: &Path) -> Result<(), DiskError> {
    let output = match run("fsck", &["-a"], disk).await {
        Err(DiskError::NoProgram(program)) => {
            tracing::warn!(disk = %disk.display(), program, "mounting without a check: there is no such program");
            return Ok(());
        }
        other => other?,
    };
    match plan::is_sound(output.status.code()) {
        true => Ok(()),
        false => Err(DiskError::Damaged(said(&output))),
    }
}

fn said(output: &Output) -> String {
    let all = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).trim().to_owned());
    all.join(" ").trim().to_owned()
}

/// Runs one of the host's programs on the disk, to its end: what formats must not be broken off.
async fn run(program: &str, words: &[&str], disk: &Path) -> Result<Output, DiskError> {
    let path = find(program, &PLACES).ok_or_else(|| DiskError::NoProgram(program.to_owned()))?;
    let mut command = Command::new(path);
    command
        .args(words)
        .arg(disk)
        .stdin(Stdio::null())
        .env("LC_ALL", "C");
    command.output().await.map_err(|source| DiskError::Run {
        program: program.to_owned(),
        source,
    })
}

fn find(program: &str, places: &[&str]) -> Option<PathBuf> {
    let all = places.iter().map(|place| Path::new(place).join(program));
    all.into_iter().find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_the_program_is_told_its_name() {
        assert_eq!(find("blkid", &["/nowhere", "/proc/self"]), None);
        assert!(find("sh", &PLACES).is_some());
        let error = DiskError::NoProgram("blkid".into()).to_string();
        assert_eq!(error, "the host's program blkid is not there");
    }
}
