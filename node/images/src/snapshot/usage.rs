//! What a directory tree takes on disk.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::image::Usage;

/// Allocated bytes and inodes below `root`, itself included, each hard-linked file once, other file systems not
/// entered. Files that vanish meanwhile are left out.
///
/// # Errors
/// What listing a directory answers, but `NotFound`.
pub fn directory_usage(root: &Path) -> io::Result<Usage> {
    let device = fs::symlink_metadata(root)?.dev();
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    let mut pending: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let Some(meta) = present(fs::symlink_metadata(&path))? else {
            continue;
        };
        let seen = !meta.is_dir() && meta.nlink() > 1 && !linked.insert(meta.ino());
        if seen || meta.dev() != device {
            continue;
        }
        usage.bytes += meta.blocks() * 512;
        usage.inodes += 1;
        if meta.is_dir() {
            let Some(entries) = present(fs::read_dir(&path))? else {
                continue;
            };
            for entry in entries {
                pending.push(entry?.path());
            }
        }
    }
    Ok(usage)
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
