//! Keeping this process small: what a start or a burst of work needed is given back once it is over.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use knode_cri::RuntimeService;

/// How long after its beginning a burst of work counts as over. A longer one is interrupted for some milliseconds.
const SETTLED: Duration = Duration::from_secs(5);

/// Gives memory back after the start, and whenever containers have come or gone.
pub async fn keep(runtime: Arc<dyn RuntimeService>) -> Infallible {
    loop {
        // A runtime that does not tell is asked again: it may only have been restarted.
        if let Ok(mut events) = runtime.container_events().await {
            loop {
                after_start().await;
                while let Some(Some(Ok(_))) = events.next().now_or_never() {}
                if !matches!(events.next().await, Some(Ok(_))) {
                    break;
                }
            }
        }
        tokio::time::sleep(SETTLED).await;
    }
}

/// Gives memory back once, when the start is over.
pub async fn after_start() {
    tokio::time::sleep(SETTLED).await;
    let given = tokio::task::spawn_blocking(|| {
        let given = knode_linux::memory::release_program();
        knode_linux::memory::trim();
        given
    });
    // A panic has been told already, and nothing depends on this.
    if let Ok(Err(error)) = given.await {
        tracing::debug!(%error, "pages of the program are kept");
    }
}
