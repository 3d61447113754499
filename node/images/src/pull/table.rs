//! Pulls under way: callers that want the same wait for one.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::error::{Error, Result};
use crate::image::Image;
use crate::reference::Reference;
use crate::registry::Auth;

type Key = (Reference, Auth);
type Outcome = Result<Image, Arc<Error>>;
type Waiting = HashMap<Key, Shared<BoxFuture<'static, Outcome>>>;

#[derive(Default)]
pub(crate) struct PullTable {
    waiting: Arc<Mutex<Waiting>>,
}

impl std::fmt::Debug for PullTable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("PullTable")
            .field("waiting", &lock(&self.waiting).len())
            .finish()
    }
}

impl PullTable {
    /// Waits for the pull of `key` that is under way, or starts `pull` as a task of its own.
    pub(crate) async fn join(
        &self,
        key: Key,
        pull: impl Future<Output = Result<Image>> + Send + 'static,
    ) -> Result<Image> {
        let shared = match lock(&self.waiting).entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.get().clone(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let entered = Entered {
                    key: entry.key().clone(),
                    waiting: self.waiting.clone(),
                };
                let task = tokio::spawn(async move {
                    let outcome = pull.await.map_err(Arc::new);
                    drop(entered);
                    outcome
                });
                let outcome = async {
                    task.await
                        .unwrap_or_else(|_| Err(Arc::new(Error::TaskLost("pull"))))
                };
                entry.insert(outcome.boxed().shared()).clone()
            }
        };
        shared.await.map_err(Error::Shared)
    }
}

/// Takes its entry out of the table when the pull ends, in whatever way.
struct Entered {
    key: Key,
    waiting: Arc<Mutex<Waiting>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.key);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
