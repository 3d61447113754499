//! How much directories hold.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes on disk and inodes of everything below a directory, on its own file system. What vanishes meanwhile does not
/// count; a directory that is not there holds nothing.
pub(crate) fn usage(directory: &Path) -> io::Result<(u64, u64)> {
    let root = match fs::symlink_metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        other => other?,
    };
    let (mut bytes, mut inodes) = (root.blocks() * 512, 1);
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries.flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.dev() != root.dev() {
                continue;
            }
            bytes += found.blocks() * 512;
            inodes += 1;
            if found.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok((bytes, inodes))
}
