//! Time as a parameter.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;

/// Where a component gets the time from.
pub trait Clock: Send + Sync + 'static {
    /// The wall-clock time.
    fn now(&self) -> Timestamp;

    /// Time since some fixed point in the past; never goes back.
    fn monotonic(&self) -> Duration;

    /// Resolves after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's time.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: tokio::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            origin: tokio::time::Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

/// A clock that a test moves.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<Manual>,
}

#[derive(Debug)]
struct Manual {
    start: Timestamp,
    elapsed: Duration,
    next: u64,
    sleepers: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
}

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        let sleepers = BTreeMap::new();
        Self {
            state: Mutex::new(Manual {
                start,
                elapsed: Duration::ZERO,
                next: 0,
                sleepers,
            }),
        }
    }

    /// Moves the time on and wakes everyone whose sleep is over.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.elapsed += by;
        let after = (state.elapsed + Duration::from_nanos(1), 0);
        let later = state.sleepers.split_off(&after);
        let due = std::mem::replace(&mut state.sleepers, later);
        for waker in due.into_values() {
            // Whoever gave up its sleep needs no waking.
            let _ = waker.send(());
        }
    }

    /// How many sleeps are going on: a test waits for this before it advances.
    pub fn sleepers(&self) -> usize {
        let mut state = self.lock();
        state.sleepers.retain(|_, waker| !waker.is_closed());
        state.sleepers.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Manual> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let state = self.lock();
        let elapsed = SignedDuration::try_from(state.elapsed).unwrap_or(SignedDuration::MAX);
        state.start.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.lock().elapsed
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (waker, woken) = oneshot::channel();
        let mut state = self.lock();
        if duration.is_zero() {
            return futures::future::ready(()).boxed();
        }
        let key = (state.elapsed + duration, state.next);
        state.next += 1;
        state.sleepers.insert(key, waker);
        // A clock that is gone ends every sleep.
        woken.map(|_| ()).boxed()
    }
}
