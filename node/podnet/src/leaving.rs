use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{MutexGuard, oneshot};

use crate::error::{Error, Result};

/// Sandboxes that wait to be disconnected together.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    waiting: Mutex<Vec<Waiting>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Waiting {
    sandbox: String,
    tell: oneshot::Sender<Result<()>>,
}

impl Leaving {
    /// Joins those who wait; the receiver is told when the sandbox is disconnected.
    pub fn join(&self, sandbox: &str) -> oneshot::Receiver<Result<()>> {
        let (tell, told) = oneshot::channel();
        self.lock().push(Waiting {
            sandbox: sandbox.to_owned(),
            tell,
        });
        told
    }

    /// Waits until nobody else is disconnecting.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Disconnects all who wait by one call of `remove`. An error is everybody's.
    pub fn leave(&self, remove: impl FnOnce(&[String]) -> Result<()>) {
        let waiting = std::mem::take(&mut *self.lock());
        let sandboxes: Vec<_> = waiting.iter().map(|w| w.sandbox.clone()).collect();
        let result = remove(&sandboxes).map_err(Arc::new);
        for one in waiting {
            let result = result.clone().map_err(|source| Error::Together {
                sandbox: one.sandbox,
                source,
            });
            // Whoever no longer waits does not want to know.
            let _ = one.tell.send(result);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
