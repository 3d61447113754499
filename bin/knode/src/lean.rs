//! Keeping this process small: what a start or a burst of work needed is given back once it is over.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use knode_cri::RuntimeService;
use tokio::time::{Instant, sleep, timeout_at};

/// How long after the start, or without an event, work counts as over.
const SETTLED: Duration = Duration::from_secs(5);

/// How long work without such a pause goes on before memory is given back in the middle of it, which interrupts it for
/// some milliseconds.
const LONGEST: Duration = Duration::from_secs(30);

/// Gives memory back after the start, and whenever containers have come or gone.
pub async fn keep(runtime: Arc<dyn RuntimeService>) -> Infallible {
    loop {
        // A runtime that does not tell is asked again: it may only have been restarted.
        if let Ok(mut events) = runtime.container_events().await {
            after_start().await;
            while burst(&mut events).await {
                give_back().await;
            }
        }
        sleep(SETTLED).await;
    }
}

/// Waits for an event, and then until there has been none for [`SETTLED`], or for [`LONGEST`] in all. `false` when no
/// event will come any more.
async fn burst<E>(events: &mut (impl Stream<Item = E> + Unpin)) -> bool {
    if events.next().await.is_none() {
        return false;
    }
    let longest = Instant::now() + LONGEST;
    loop {
        let over = longest.min(Instant::now() + SETTLED);
        match timeout_at(over, events.next()).await {
            Ok(Some(_)) if Instant::now() < longest => {}
            // What came before the stream's end is followed by it at the next look.
            Ok(_) | Err(_) => return true,
        }
    }
}

/// Gives memory back once, when the start is over.
pub async fn after_start() {
    sleep(SETTLED).await;
    give_back().await;
}

async fn give_back() {
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

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;

    use super::*;

    /// Seconds from now until a burst of events at these seconds is over.
    async fn over(at: impl Iterator<Item = u64> + Send + 'static) -> u64 {
        let (sender, mut receiver) = mpsc::unbounded();
        let began = Instant::now();
        let sending = tokio::spawn(async move {
            for second in at {
                tokio::time::sleep_until(began + Duration::from_secs(second)).await;
                sender
                    .unbounded_send(())
                    .expect("the receiver lives as long as this test");
            }
            std::future::pending::<()>().await;
        });
        assert!(burst(&mut receiver).await);
        sending.abort();
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_over_once_nothing_has_come_for_a_while() {
        assert_eq!(over([2, 3, 7, 20].into_iter()).await, 12);
    }

    #[tokio::test(start_paused = true)]
    async fn work_without_a_pause_is_interrupted() {
        assert_eq!(over(1..100).await, 31);
    }

    #[tokio::test]
    async fn a_stream_that_ends_is_asked_for_again() {
        assert!(!burst(&mut futures::stream::empty::<()>()).await);
        assert!(burst(&mut futures::stream::iter([(), ()])).await);
    }
}
