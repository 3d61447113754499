//! What all requests share.

use std::sync::Arc;
use std::time::Duration;

use knode_api::status::Status;
use knode_kinds::{Kind, Storage};
use knode_store::{Revision, Store};
use tokio::sync::watch;

use crate::alloc::Allocators;
use crate::auth::{Authenticator, Authorizer};
use crate::cache::{Cache, Object, Table, storage_key};
use crate::config::ApiServerConfig;
use crate::http::Failure;
use crate::kubelet::Kubelets;

/// How long a request waits for the cache to see what is written.
const SETTLE: Duration = Duration::from_secs(5);

/// What all requests share.
pub(crate) struct Core {
    pub config: ApiServerConfig,
    pub store: Store,
    pub cache: Arc<Cache>,
    pub allocators: Allocators,
    pub authenticator: Authenticator,
    pub authorizer: Authorizer,
    pub kubelets: Kubelets,
    /// True when the server ends: watches end then.
    pub closing: watch::Sender<bool>,
}

impl Core {
    /// The table of a stored kind.
    pub fn table(&self, kind: &Kind) -> Result<Arc<Table>, Failure> {
        self.cache
            .table(kind)
            .cloned()
            .ok_or_else(|| Status::method_not_allowed().into())
    }

    /// The storage name of a stored kind.
    pub fn storage(&self, kind: &Kind) -> Result<&'static str, Failure> {
        match kind.storage {
            Storage::Stored(name) => Ok(name),
            Storage::Virtual => Err(Status::method_not_allowed().into()),
        }
    }

    /// Waits until the cache has everything that was written before.
    pub async fn settle(&self) -> Result<(), Failure> {
        match self.cache.reach(self.store.revision(), SETTLE).await {
            true => Ok(()),
            false => Err(Status::timeout("Timeout: the cache has fallen behind the store", 1).into()),
        }
    }

    /// The latest state of an object.
    pub async fn current(&self, kind: &Kind, key: &str) -> Result<Option<Arc<Object>>, Failure> {
        self.settle().await?;
        let table = self.table(kind)?;
        if !table.is_indexed() {
            return Ok(table.get(key));
        }
        let stored = self.store.get(storage_key(self.storage(kind)?, key), None).await;
        let stored = stored.map_err(|error| self.store_failure(error))?;
        let object = stored.map(|entry| Object::new(table.kind, key, entry.revision, entry.value));
        Ok(object.transpose().map_err(Status::internal)?.map(Arc::new))
    }

    /// An object as the cache has it now, of a kind that it has objects of.
    pub fn cached(&self, group: &str, plural: &str, key: &str) -> Option<Arc<Object>> {
        self.cached_table(group, plural)?.get(key)
    }

    /// The table of a kind, if this server has the kind.
    pub fn cached_table(&self, group: &str, plural: &str) -> Option<&Arc<Table>> {
        let kind = knode_kinds::kinds()
            .iter()
            .find(|k| k.group == group && k.plural == plural)?;
        self.cache.table(kind)
    }

    /// Waits until the cache has a write.
    pub async fn seen(&self, revision: Revision) {
        // A cache that lags doesn't undo the write: who reads next waits for it all the same.
        let _ = self.cache.reach(revision, SETTLE).await;
    }

    /// The store's errors in the words of the API.
    pub fn store_failure(&self, error: knode_store::Error) -> Failure {
        use knode_store::Error;
        match error {
            Error::Compacted { requested, oldest } => Status::too_old(requested, oldest).into(),
            Error::Future { requested, latest } => {
                Status::too_large_resource_version(requested, latest).into()
            }
            Error::Closed => Status::unavailable("the server is shutting down").into(),
            Error::Full { .. } => {
                tracing::error!(%error, "a write failed");
                Status::internal(error).into()
            }
            other => {
                tracing::error!(error = %chain(&other), "the store failed");
                Status::internal(other).into()
            }
        }
    }
}

/// An error with its sources.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
