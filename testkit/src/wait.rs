//! Waiting for a condition, with a bound and a message that shows what was seen.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// What a look at a condition can answer: `bool`, `Option<T>`, or `Result<T, E>` whose error is what was seen.
pub trait Look {
    /// What the condition yields when it holds.
    type Found;
    /// The found value, or what was seen instead.
    fn found(self) -> Result<Self::Found, String>;
}

impl Look for bool {
    type Found = ();
    fn found(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".to_owned()) }
    }
}

impl<T> Look for Option<T> {
    type Found = T;
    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Display> Look for Result<T, E> {
    type Found = T;
    fn found(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

/// Looks until the condition holds.
///
/// # Panics
/// After `bound`, telling `what` was waited for and what was seen last.
#[track_caller]
pub fn wait_until<L: Look>(what: &str, bound: Duration, mut look: impl FnMut() -> L) -> L::Found {
    let start = Instant::now();
    loop {
        match look().found() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() >= bound => give_up(what, bound, &seen),
            Err(_) => pause(),
        }
    }
}

/// [`wait_until`] for conditions that are asked asynchronously.
///
/// # Panics
/// As [`wait_until`].
pub async fn wait_until_async<L, F>(what: &str, bound: Duration, mut look: impl FnMut() -> F) -> L::Found
where
    L: Look,
    F: Future<Output = L>,
{
    let start = Instant::now();
    loop {
        match look().await.found() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() >= bound => give_up(what, bound, &seen),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[track_caller]
fn give_up(what: &str, bound: Duration, seen: &str) -> ! {
    panic!("waited {bound:?} for {what}; last seen: {seen}")
}

/// The pause of a poll with a bound.
#[allow(clippy::disallowed_methods)]
pub(crate) fn pause() {
    std::thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_found_value_comes_back() {
        let mut looks = 0;
        let found = wait_until("the third look", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "waited 50ms for a door; last seen: it is shut")]
    fn what_was_seen_last_is_told() {
        wait_until("a door", Duration::from_millis(50), || Err::<(), _>("it is shut"));
    }

    #[tokio::test]
    async fn conditions_may_be_asynchronous() {
        wait_until_async("truth", Duration::from_secs(1), async || true).await;
    }
}
