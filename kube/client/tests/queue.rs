//! Work queue, back-off, clock.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use knode_client::{Backoff, Clock, ManualClock, WorkQueue};

const SECOND: Duration = Duration::from_secs(1);

fn queue() -> (Arc<ManualClock>, WorkQueue<&'static str>) {
    let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    let backoff = Backoff {
        initial: SECOND,
        max: SECOND * 10,
        factor: 2.0,
        jitter: 0.0,
    };
    (clock.clone(), WorkQueue::new(clock, backoff))
}

fn ready(queue: &WorkQueue<&'static str>) -> Option<&'static str> {
    queue.next().now_or_never().flatten()
}

#[tokio::test]
async fn a_key_waits_once_and_is_never_worked_on_twice_at_a_time() {
    let (_, queue) = queue();
    queue.add("a");
    queue.add("b");
    queue.add("a");
    assert_eq!(queue.len(), 2);
    assert_eq!(ready(&queue), Some("a"));
    queue.add("a");
    assert_eq!(ready(&queue), Some("b"));
    assert_eq!(ready(&queue), None);
    queue.done(&"a");
    assert_eq!(ready(&queue), Some("a"));
    queue.done(&"a");
    assert_eq!(ready(&queue), None);
}

#[tokio::test]
async fn delayed_keys_come_in_time_and_the_shortest_delay_counts() {
    let (clock, queue) = queue();
    queue.add_after("late", SECOND * 5);
    queue.add_after("soon", SECOND * 2);
    queue.add_after("late", SECOND * 3);
    queue.add_after("late", SECOND * 9);
    let taken = async { (queue.next().await, queue.next().await, clock.monotonic()) };
    let driver = async {
        loop {
            tokio::task::yield_now().await;
            if clock.sleepers() > 0 {
                clock.advance(SECOND);
            }
        }
    };
    let (first, second, at) = tokio::select! { taken = taken => taken, () = driver => unreachable!() };
    assert_eq!((first, second, at), (Some("soon"), Some("late"), SECOND * 3));
    assert_eq!(ready(&queue), None);
}

#[tokio::test]
async fn failures_back_off_until_forgotten() {
    let (clock, queue) = queue();
    for expected in [1, 2, 4, 8, 10, 10] {
        queue.add_rate_limited("a");
        clock.advance(SECOND * expected - Duration::from_millis(1));
        assert_eq!(ready(&queue), None, "{expected}");
        clock.advance(Duration::from_millis(1));
        assert_eq!(ready(&queue), Some("a"), "{expected}");
        queue.done(&"a");
    }
    assert_eq!(queue.failures(&"a"), 6);
    queue.forget(&"a");
    queue.add_rate_limited("a");
    clock.advance(SECOND);
    assert_eq!(ready(&queue), Some("a"));
}

#[tokio::test]
async fn a_closed_queue_gives_what_is_left_and_ends() {
    let (_, queue) = queue();
    queue.add("a");
    queue.add_after("b", SECOND);
    queue.close();
    queue.add("c");
    assert_eq!(queue.next().await, Some("a"));
    assert_eq!(queue.next().await, None);
    assert_eq!(queue.next().await, None);
}

#[tokio::test]
async fn several_workers_share_the_work() {
    let queue = Arc::new(queue().1);
    let worker = |queue: Arc<WorkQueue<&'static str>>| async move {
        let mut taken = Vec::new();
        while let Some(key) = queue.next().await {
            taken.push(key);
            tokio::task::yield_now().await;
            queue.done(&key);
        }
        taken
    };
    let workers: Vec<_> = (0..3).map(|_| tokio::spawn(worker(queue.clone()))).collect();
    tokio::task::yield_now().await;
    let keys = ["a", "b", "c", "d", "e", "f"];
    keys.iter().for_each(|key| queue.add(key));
    queue.close();
    let mut all = Vec::new();
    for worker in workers {
        let taken = tokio::time::timeout(SECOND * 10, worker)
            .await
            .expect("workers end")
            .unwrap();
        all.extend(taken);
    }
    all.sort_unstable();
    assert_eq!(all, keys);
}

#[test]
fn backoff_grows_to_its_bound_with_jitter() {
    let backoff = Backoff {
        initial: SECOND,
        max: SECOND * 30,
        factor: 2.0,
        jitter: 0.5,
    };
    assert_eq!(backoff.delay(0, 0.0), SECOND);
    assert_eq!(backoff.delay(3, 0.0), SECOND * 8);
    assert_eq!(backoff.delay(50, 0.0), SECOND * 30);
    assert_eq!(backoff.delay(u32::MAX, 1.0), SECOND * 45);
    assert_eq!(backoff.delay(1, 0.5), Duration::from_millis(2500));
}
