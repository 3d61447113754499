//! The slow look at the sizes of logs, and the rotation of those that are too large.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use knode_cri as cri;

use super::plan::{COMPRESSED, UNFINISHED, rotated_name, tidy};
use crate::kubelet::Shared;
use crate::worker::Context;

/// Looks at the logs of running containers, for ever. What has ended writes nothing more and stays as it is.
pub(crate) async fn run(context: Arc<Context>, shared: Arc<Shared>) {
    loop {
        let rotation = context.config.log_rotation;
        context.config.clock.sleep(rotation.interval).await;
        for (id, log) in shared.running_logs() {
            if is_due(&log, rotation.max_size)
                && let Err(error) = rotate(&context, &id, &log).await
            {
                tracing::warn!(container = id, log = %log.display(), error, "cannot rotate the container's log");
            }
        }
    }
}

/// Whether the log is too large, or has been taken away.
fn is_due(log: &Path, max_size: u64) -> bool {
    match fs::metadata(log) {
        Ok(found) => found.len() >= max_size,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

async fn rotate(context: &Context, id: &str, log: &Path) -> Result<(), String> {
    let (path, max_files, now) = (
        log.to_owned(),
        context.config.log_rotation.max_files,
        context.now(),
    );
    let moved = tokio::task::spawn_blocking(move || move_away(&path, max_files, now)).await;
    let moved = moved
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    let request = cri::ReopenContainerLogRequest {
        container_id: id.to_owned(),
    };
    let Err(error) = context.runtime().reopen_container_log(request).await else {
        return Ok(());
    };
    // The runtime goes on writing to the old file: it gets its name back.
    if let Some(moved) = moved {
        fs::rename(&moved, log).map_err(|again| format!("{error}; and back: {again}"))?;
    }
    Err(error.to_string())
}

/// Tidies up the older files and renames the log, so that the runtime can open a new one in its place. `None` if
/// there is no log, or if one was renamed in this very second.
pub(super) fn move_away(log: &Path, max_files: usize, now: Timestamp) -> io::Result<Option<PathBuf>> {
    let Some(name) = log.file_name().and_then(|name| name.to_str()) else {
        return Ok(None);
    };
    let to = log.with_file_name(rotated_name(name, now));
    if to.exists() || !log.exists() {
        return Ok(None);
    }
    let work = tidy(older(log)?, max_files);
    for name in work.remove {
        remove(&log.with_file_name(name))?;
    }
    for name in work.compress {
        compress(&log.with_file_name(name))?;
    }
    fs::rename(log, &to)?;
    Ok(Some(to))
}

/// Names of the files that a log was rotated into.
fn older(log: &Path) -> io::Result<Vec<String>> {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}.");
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let found = entry?.file_name();
        all.extend(
            found
                .to_str()
                .filter(|one| one.starts_with(&prefix))
                .map(ToOwned::to_owned),
        );
    }
    Ok(all)
}

/// Replaces a file by its compressed form; at every moment one of the two is whole.
fn compress(path: &Path) -> io::Result<()> {
    let with = |ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
    let unfinished = with(UNFINISHED);
    let mut encoder = GzEncoder::new(File::create(&unfinished)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(&unfinished, with(COMPRESSED))?;
    remove(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a log with everything that it was rotated into.
pub(crate) fn remove_all(log: &Path) -> io::Result<()> {
    remove(log)?;
    let older = match older(log) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    older
        .into_iter()
        .try_for_each(|name| remove(&log.with_file_name(name)))
}
