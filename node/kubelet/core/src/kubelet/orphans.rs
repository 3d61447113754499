//! Directories of pods that are gone.

use std::collections::BTreeSet;
use std::sync::Arc;

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

/// Unmounts and removes the directories of these pods. Blocks.
pub(super) fn sweep(context: &Arc<Context>, uids: &[String]) {
    for uid in uids {
        tracing::info!(uid, "removing the directory of a pod that is gone");
        for error in context.volumes.tear_down(uid).err().into_iter().flatten() {
            tracing::warn!(uid, %error, "cannot remove what a pod has left behind");
        }
        remove_cgroups(context, uid);
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
