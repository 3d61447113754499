use std::sync::Arc;

use knode_client::{Backoff, Retry};

use super::{Shared, StoreError, failed};
use crate::etcd::WatchEnd;

/// Follows the leases for ever. While etcd is away the last ones known stand.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut retry = Retry::new(Backoff::API);
    loop {
        let end = follow(&shared, &mut retry).await;
        match end {
            Ok(WatchEnd::Compacted(revision)) => {
                tracing::info!(
                    revision,
                    "the watch of the leases fell behind a compaction; listing again"
                );
                continue;
            }
            Ok(WatchEnd::Cancelled(why)) => tracing::warn!(why, "etcd ended the watch of the leases"),
            Ok(WatchEnd::Broken(status)) => {
                let why = status.map(|s| s.message().to_owned()).unwrap_or_default();
                tracing::warn!(why, "the watch of the leases broke");
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "the leases cannot be followed; those known stand meanwhile"
                );
            }
        }
        tokio::time::sleep(retry.failed()).await;
    }
}

async fn follow(shared: &Shared, retry: &mut Retry) -> Result<WatchEnd, StoreError> {
    let mut next = shared.list().await? + 1;
    loop {
        let watch = shared.etcd.watch(&shared.config.prefix.subnets(), next).await;
        let mut watch = watch.map_err(failed("watch the leases"))?;
        loop {
            match watch.next().await {
                Ok((events, revision)) => {
                    retry.succeeded();
                    shared.change(|view| events.iter().for_each(|event| view.apply(event)));
                    next = revision + 1;
                }
                Err(WatchEnd::Broken(status)) => {
                    // Another member may go on from here; if none does, the list begins anew.
                    tracing::debug!(?status, "the watch of the leases broke");
                    break;
                }
                Err(end) => return Ok(end),
            }
        }
        tokio::time::sleep(retry.failed()).await;
    }
}
