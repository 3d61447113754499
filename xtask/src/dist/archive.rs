//! Archives without anything that depends on who makes them, and when.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tar::{Builder, EntryType, Header};

/// A file of an archive.
pub struct Entry {
    /// Relative to the archive's root.
    pub path: PathBuf,
    pub mode: u32,
    pub bytes: Vec<u8>,
}

impl Entry {
    pub fn file(path: impl Into<PathBuf>, mode: u32, bytes: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            mode,
            bytes,
        }
    }
}

/// A compressed tar archive of the files and the directories above them, in the order of their names, all root's.
pub fn tar_gz(mut entries: Vec<Entry>, time: u64) -> io::Result<Vec<u8>> {
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let directories: BTreeSet<&Path> = entries
        .iter()
        .flat_map(|entry| entry.path.ancestors().skip(1))
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    let mut tar = Builder::new(Vec::new());
    for directory in directories {
        let name = format!("./{}/", directory.display());
        tar.append_data(&mut header(EntryType::Directory, 0o755, 0, time), name, &[][..])?;
    }
    for entry in &entries {
        let name = format!("./{}", entry.path.display());
        let mut header = header(EntryType::Regular, entry.mode, entry.bytes.len() as u64, time);
        tar.append_data(&mut header, name, entry.bytes.as_slice())?;
    }
    gzip(&tar.into_inner()?)
}

/// Without name and time in it.
fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut child = Command::new("gzip")
        .args(["-9", "--no-name", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let out = std::thread::scope(|scope| {
        let written = scope.spawn(move || input.write_all(bytes));
        let out = child.wait_with_output()?;
        written.join().map_err(|_| io::ErrorKind::BrokenPipe)??;
        io::Result::Ok(out)
    })?;
    if out.status.success() {
        Ok(out.stdout)
    } else {
        Err(io::Error::other(format!("gzip: {}", out.status)))
    }
}

fn header(kind: EntryType, mode: u32, size: u64, time: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// An archive as `ar(1)` makes it, which is what a Debian package is.
pub fn ar(members: &[(&str, Vec<u8>)], time: u64) -> io::Result<Vec<u8>> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        writeln!(
            out,
            "{name:<16}{time:<12}0     0     100644  {:<10}`",
            bytes.len()
        )?;
        out.extend(bytes);
        if bytes.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    Ok(out)
}
