//! Time that goes with tokio's, which tests pause.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use knode_client::Clock;

pub struct VirtualClock {
    start: Timestamp,
    origin: tokio::time::Instant,
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self {
            start: "2026-11-22T14:49:25Z".parse().unwrap(),
            origin: tokio::time::Instant::now(),
        }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.start + SignedDuration::try_from(self.origin.elapsed()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}
