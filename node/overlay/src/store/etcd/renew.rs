use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::key::SubnetKey;
use super::{Shared, StoreError};
use crate::etcd::When;
use crate::lease::LeaseAttributes;

/// After a failure the next attempt (upstream).
const AGAIN: Duration = Duration::from_secs(60);

/// The lease that this process holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    pub key: SubnetKey,
    pub attributes: LeaseAttributes,
    pub revision: i64,
    pub lease: i64,
    pub end: Instant,
}

/// Renews what is held before it ends, for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut held = shared.held.subscribe();
    loop {
        let Some(now) = held.borrow_and_update().clone() else {
            if held.changed().await.is_err() {
                return;
            }
            continue;
        };
        let due = now.end.checked_sub(shared.config.renew_margin).unwrap_or(now.end);
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            changed = held.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        }
        until_renewed(&shared, &now).await;
    }
}

async fn until_renewed(shared: &Shared, held: &Held) {
    let again = AGAIN.min(shared.config.renew_margin);
    loop {
        match renew(shared, held).await {
            Ok(true) => return,
            Ok(false) => {
                tracing::warn!(subnet = %held.key.ipv4, "the lease to renew is gone or changed");
                // Unless it was taken anew meanwhile there is nothing to renew.
                shared.held.send_if_modified(|now| {
                    let same = now.as_ref() == Some(held);
                    if same {
                        *now = None;
                    }
                    same
                });
                return;
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the lease is not renewed; trying again"
                );
                tokio::time::sleep(again).await;
            }
        }
        if shared.held.borrow().as_ref() != Some(held) {
            return;
        }
    }
}

async fn renew(shared: &Shared, held: &Held) -> Result<bool, StoreError> {
    let when = When::Unchanged(held.revision);
    let lease = shared.write(held.key, &held.attributes, false, when).await?;
    if lease.is_some() {
        tracing::info!(
            "Lease renewed, new expiration in {:?}",
            shared.config.time_to_live
        );
        // The key has left it.
        shared.give_back(held.lease).await;
    }
    Ok(lease.is_some())
}
