//! Following files that may be replaced.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use knode_linux::filewatch::FileWatch;

use crate::Result;

/// Calls `take_up` now and whenever the directories of the files that it names change, for ever. What it fails with is
/// logged, and everything stays as it was; `what` says of what.
pub(super) async fn follow(what: &str, mut take_up: impl FnMut() -> Result<Vec<PathBuf>>) {
    let mut watched = BTreeSet::new();
    let watch = match FileWatch::new() {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!(%error, "{what}: changes are noticed at the next start only");
            return std::future::pending().await;
        }
    };
    loop {
        match take_up() {
            // Between reading and watching something may have changed.
            Ok(files) if add(&watch, &mut watched, &files) => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "{what}: everything stays as it was"
            ),
        }
        if let Err(error) = watch.changed().await {
            tracing::warn!(%error, "{what}: changes are noticed at the next start only");
            return std::future::pending().await;
        }
    }
}

/// Watches the directories of the files; whether there is a new one among them.
fn add(watch: &FileWatch, watched: &mut BTreeSet<PathBuf>, files: &[PathBuf]) -> bool {
    let before = watched.len();
    for directory in files.iter().filter_map(|file| file.parent()).map(Path::to_owned) {
        if watched.contains(&directory) {
            continue;
        }
        match watch.add_directory(&directory) {
            Ok(()) => drop(watched.insert(directory)),
            Err(error) => tracing::warn!(directory = %directory.display(), %error, "not followed"),
        }
    }
    watched.len() > before
}
