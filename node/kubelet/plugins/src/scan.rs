//! The sockets of a directory and of those in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::plan::Stamp;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) sockets: BTreeMap<PathBuf, Stamp>,
    pub(crate) directories: Vec<PathBuf>,
}

/// Looks through `directory` and those in it; hidden files and directories are not looked at, as upstream.
///
/// # Errors
/// That `directory` itself cannot be read.
pub(crate) fn scan(directory: &Path) -> io::Result<Found> {
    let mut found = Found {
        directories: vec![directory.to_owned()],
        ..Found::default()
    };
    let mut next = 0;
    while let Some(directory) = found.directories.get(next).cloned() {
        match read(&directory, &mut found) {
            Ok(()) => {}
            Err(error) if next == 0 => return Err(error),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %directory.display(), %error, "cannot look for plugins");
            }
        }
        next += 1;
    }
    Ok(found)
}

fn read(directory: &Path, found: &mut Found) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // One that is gone by now was not there.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            found.directories.push(entry.path());
        } else if metadata.file_type().is_socket() {
            let stamp = Stamp {
                inode: metadata.ino(),
                made: metadata.modified().ok(),
            };
            found.sockets.insert(entry.path(), stamp);
        }
    }
    Ok(())
}
