//! Noticing that the files of a client certificate change.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use knode_linux::filewatch::FileWatch;

use super::identity::ClientIdentity;
use super::origin::Origin;

/// Where the system has no watches left, the files are looked at this often.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often it is seen whether the identity is still in use.
const NAP: Duration = Duration::from_secs(600);

/// Looks after the files as long as the identity is in use. Authorities need no watch: they are read at each handshake.
pub(super) fn files(origin: &Arc<Origin>, identity: &Arc<ClientIdentity>) {
    let files = origin.files();
    if files.is_empty() {
        return;
    }
    let directories: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    let watch = watch(&directories)
        .inspect_err(|error| tracing::warn!(%error, "credentials are looked at once a minute only"))
        .ok();
    tokio::spawn(follow(Arc::downgrade(identity), watch));
}

fn watch(directories: &BTreeSet<&Path>) -> std::io::Result<FileWatch> {
    let watch = FileWatch::new()?;
    for directory in directories {
        watch.add_directory(directory)?;
    }
    Ok(watch)
}

async fn follow(identity: Weak<ClientIdentity>, mut watch: Option<FileWatch>) {
    loop {
        match &watch {
            Some(watching) => {
                if let Ok(Err(error)) = tokio::time::timeout(NAP, watching.changed()).await {
                    tracing::warn!(%error, "credentials are looked at once a minute only");
                    watch = None;
                }
            }
            None => tokio::time::sleep(INTERVAL).await,
        }
        let Some(identity) = identity.upgrade() else {
            return;
        };
        identity.reload_logged();
    }
}
