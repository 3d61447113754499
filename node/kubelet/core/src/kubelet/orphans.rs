//! Directories of pods that are gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::worker::Context;

/// Unmounts and removes the directories of all pods but `known`. Blocks.
pub(super) fn sweep(context: &Arc<Context>, known: &BTreeSet<String>) {
    let directory = context.volumes.paths().pods();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(path = %directory.display(), %error, "cannot look for directories of pods that are gone");
            return;
        }
    };
    for entry in entries.flatten() {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if known.contains(&uid) {
            continue;
        }
        tracing::info!(uid, "removing the directory of a pod that is gone");
        for error in context.volumes.tear_down(&uid).err().into_iter().flatten() {
            tracing::warn!(uid, %error, "cannot remove what a pod has left behind");
        }
        remove_cgroups(context, &uid);
    }
}

/// The class of a pod that is gone is not known.
fn remove_cgroups(context: &Arc<Context>, uid: &str) {
    let root = context.config.cgroup_root.trim_end_matches('/');
    for class in ["", "/burstable", "/besteffort"] {
        let path = format!("{root}/kubepods{class}/pod{uid}");
        if let Err(error) = context.config.cgroups.remove(&path) {
            tracing::warn!(uid, path, %error, "cannot remove the cgroup of a pod that is gone");
        }
    }
}
