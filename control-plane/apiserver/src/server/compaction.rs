//! Forgetting: old revisions, and objects that expire (events).

use std::sync::Arc;
use std::time::Duration;

use knode_store::Store;
use tokio::sync::watch;

use crate::clock::now;
use crate::core::Core;

/// Revisions are kept this long, as upstream has etcd keep them.
const INTERVAL: Duration = Duration::from_secs(300);

/// Compacts up to where the store stood one interval ago.
pub(super) async fn run(store: Store, mut closing: watch::Receiver<bool>) {
    let mut last = store.revision();
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = closing.wait_for(|closing| *closing) => return,
        }
        if let Err(error) = store.compact(last).await {
            tracing::warn!(error = %crate::core::chain(&error), "cannot compact the store");
        }
        last = store.revision();
    }
}

/// Deletes objects that are expired.
pub(super) async fn expire_objects(core: Arc<Core>) {
    let mut closing = core.closing.subscribe();
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = closing.wait_for(|closing| *closing) => return,
        }
        expire(&core).await;
    }
}

async fn expire(core: &Core) {
    for (key, revision) in core.cache.expired(now()) {
        let expect = knode_store::Expect::Revision(revision);
        if let Err(error) = core.store.delete(key, expect).await {
            tracing::debug!(%error, "an expired object stays for now");
        }
    }
}
