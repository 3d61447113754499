use std::fmt::Debug;
use std::pin::Pin;

use futures::{Stream, StreamExt};
use knode_client::{Api, Change, Client, WatchConfig, WatchError, watch};
use kube::Resource;
use serde::de::DeserializeOwned;

type Changes<K> = Pin<Box<dyn Stream<Item = Result<Change<K>, WatchError>> + Send>>;

/// A watch that can be off, and knows whether its first list is complete.
pub(super) struct Follow<K> {
    changes: Option<Changes<K>>,
    is_synced: bool,
    /// An interruption is told once, until the next change.
    is_interrupted: bool,
}

impl<K> Default for Follow<K> {
    fn default() -> Self {
        Self {
            changes: None,
            is_synced: false,
            is_interrupted: false,
        }
    }
}

impl<K> Follow<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// Starts to watch, or starts anew.
    pub fn start(&mut self, client: &Client, config: WatchConfig) {
        *self = Self {
            changes: Some(watch(Api::all(client.clone()), config)),
            ..Self::default()
        };
    }

    pub fn stop(&mut self) {
        *self = Self::default();
    }

    pub fn is_on(&self) -> bool {
        self.changes.is_some()
    }

    /// Whether what is wanted is known: its first list is complete, or it is off.
    pub fn is_settled(&self) -> bool {
        self.is_synced || !self.is_on()
    }

    /// The next change; never while it is off.
    pub async fn next(&mut self) -> Change<K> {
        loop {
            let Some(changes) = &mut self.changes else {
                return std::future::pending().await;
            };
            match changes.next().await {
                Some(Ok(change)) => {
                    self.is_synced |= matches!(change, Change::Restarted(_));
                    self.is_interrupted = false;
                    return change;
                }
                Some(Err(error)) => self.interrupted(&error),
                // The stream is endless.
                None => return std::future::pending().await,
            }
        }
    }

    fn interrupted(&mut self, error: &WatchError) {
        let (kind, error) = (K::kind(&()), error as &dyn std::error::Error);
        if std::mem::replace(&mut self.is_interrupted, true) {
            tracing::debug!(%kind, error, "watch for network policies interrupted again");
        } else if self.is_synced {
            tracing::warn!(%kind, error, "watch for network policies interrupted");
        } else {
            tracing::warn!(%kind, error, "network policies are not enforced until this can be watched");
        }
    }
}
