//! Forgetting: old revisions, and events of the cluster.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use knode_store::Store;
use tokio::sync::watch;

use crate::clock::now;
use crate::core::Core;

/// Revisions are kept this long, as upstream has etcd keep them.
const INTERVAL: Duration = Duration::from_secs(300);
/// Events are kept this long, as upstream keeps them.
const EVENT_LIFETIME: SignedDuration = SignedDuration::from_hours(1);

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

/// Deletes events that are too old.
pub(super) async fn expire_events(core: Arc<Core>) {
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
    let Some(kind) = knode_kinds::find("", "v1", "events") else {
        return;
    };
    let Some(table) = core.cache.table(kind) else {
        return;
    };
    let Ok(storage) = core.storage(kind) else { return };
    for event in table.all("") {
        if is_old(&event.value()) {
            let key = crate::cache::storage_key(storage, &event.key);
            let expect = knode_store::Expect::Revision(event.revision);
            if let Err(error) = core.store.delete(key, expect).await {
                tracing::debug!(%error, "an old event stays for now");
            }
        }
    }
}

/// The last time that the event speaks of is that of its last change.
fn is_old(event: &serde_json::Value) -> bool {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    let last = times
        .into_iter()
        .filter_map(|time| knode_api::time::parse(time.as_str()?).ok())
        .max();
    last.is_some_and(|last| last + EVENT_LIFETIME < now())
}
