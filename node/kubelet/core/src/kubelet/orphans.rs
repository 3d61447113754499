//! What pods that are gone have left on disk.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::spec::resources::cgroup_candidates;
use crate::worker::Context;

/// Uids of pods that have a directory and are not `known`. To be asked for before any further pod is taken
/// on, so that no directory of a new pod is among them.
pub(super) fn find(context: &Context, known: &BTreeSet<String>) -> Vec<String> {
    let directory = context.volumes.paths().pods();
    match std::fs::read_dir(&directory) {
        Ok(entries) => {
            let uids = entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned());
            uids.filter(|uid| !known.contains(uid)).collect()
        }
        Err(error) => {
            tracing::warn!(path = %directory.display(), %error, "cannot look for directories of pods that are gone");
            Vec::new()
        }
    }
}

/// Log directories of pods that are not `known`. To be asked for as [`find`] is.
pub(super) fn find_logs(context: &Context, known: &BTreeSet<String>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(&context.config.pod_logs_dir);
    let names = entries.into_iter().flatten().flatten();
    // `<namespace>_<name>_<uid>`; anything else is somebody else's.
    let uid = |entry: &DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let mut parts = name.split('_');
        let uid = parts.nth(2)?.to_owned();
        parts.next().is_none().then_some(uid)
    };
    names
        .filter(|entry| uid(entry).is_some_and(|uid| !known.contains(&uid)))
        .map(|entry| entry.path())
        .collect()
}

/// Removes log directories, and links to logs that are not there any more. Blocks.
pub(super) fn sweep_logs(context: &Context, directories: &[PathBuf]) {
    for path in directories {
        tracing::info!(path = %path.display(), "removing the logs of a pod that is gone");
        if let Err(error) = std::fs::remove_dir_all(path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove logs");
        }
    }
    let links = std::fs::read_dir(&context.config.container_logs_dir);
    for link in links.into_iter().flatten().flatten() {
        let dangles = link.path().is_symlink() && !link.path().exists();
        if dangles && let Err(error) = std::fs::remove_file(link.path()) {
            tracing::warn!(path = %link.path().display(), %error, "cannot remove a link to a log");
        }
    }
}

/// How long a driver that has not registered yet is waited for.
const AGAIN: Duration = Duration::from_secs(5);

/// Unmounts and removes the directories of these pods; tries again as long as a driver cannot take back what is its.
pub(super) async fn sweep(context: Arc<Context>, mut uids: Vec<String>) {
    while !uids.is_empty() {
        let (mut ready, mut left) = (Vec::new(), Vec::new());
        for uid in uids {
            let released = context.volumes.release(&uid).await;
            for error in released.as_ref().err().into_iter().flatten() {
                tracing::warn!(uid, %error, "cannot give back a volume of a pod that is gone");
            }
            if released.is_ok() {
                ready.push(uid)
            } else {
                left.push(uid)
            }
        }
        let own = context.clone();
        // A sweep that broke off is made again at the next start.
        let _ = tokio::task::spawn_blocking(move || remove(&own, &ready)).await;
        uids = left;
        if !uids.is_empty() {
            context.config.clock.sleep(AGAIN).await;
        }
    }
}

/// Removes the directories. Blocks.
fn remove(context: &Arc<Context>, uids: &[String]) {
    for uid in uids {
        tracing::info!(uid, "removing the directory of a pod that is gone");
        for error in context.volumes.tear_down(uid).err().into_iter().flatten() {
            tracing::warn!(uid, %error, "cannot remove what a pod has left behind");
        }
        remove_cgroups(context, uid);
        context.users.release(uid);
    }
}

/// The class of a pod that is gone is not known.
fn remove_cgroups(context: &Arc<Context>, uid: &str) {
    for path in cgroup_candidates(&context.config.cgroup_root, uid) {
        if let Err(error) = context.config.cgroups.remove(&path) {
            tracing::warn!(uid, path, %error, "cannot remove the cgroup of a pod that is gone");
        }
    }
}
