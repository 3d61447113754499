//! Exponential back-off as upstream's `flowcontrol.Backoff` counts it. Pure.

use jiff::{SignedDuration, Timestamp};

const INITIAL: SignedDuration = SignedDuration::from_secs(10);
const MAX: SignedDuration = SignedDuration::from_secs(300);

/// The delay of one thing that fails again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// How long to wait after a failure.
    pub delay: SignedDuration,
    /// When the delay was last changed.
    pub updated: Timestamp,
}

impl Backoff {
    /// The back-off after a failure at `failed`, noted at `now`: 10 s, doubling to 300 s, from the start
    /// again when the thing has been well for ten minutes.
    pub fn next(old: Option<Self>, failed: Timestamp, now: Timestamp) -> Self {
        let delay = match old {
            Some(old) if !old.expired(failed) => (old.delay + old.delay).min(MAX),
            _ => INITIAL,
        };
        Self { delay, updated: now }
    }

    /// When the thing that failed at `failed` may be tried again; `None` if nothing holds it back.
    pub fn until(&self, failed: Timestamp) -> Option<Timestamp> {
        match self.expired(failed) {
            true => None,
            false => failed.checked_add(self.delay).ok(),
        }
    }

    fn expired(&self, failed: Timestamp) -> bool {
        failed.duration_since(self.updated) > MAX + MAX
    }
}

/// A duration the way Go prints it: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn doubles_to_five_minutes() {
        let mut backoff = Backoff::next(None, at(0), at(0));
        let mut delays = vec![go_duration(backoff.delay)];
        for _ in 0..6 {
            backoff = Backoff::next(Some(backoff), at(1), at(1));
            delays.push(go_duration(backoff.delay));
        }
        assert_eq!(delays, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
    }

    #[test]
    fn begins_again_after_ten_good_minutes() {
        let backoff = Backoff {
            delay: MAX,
            updated: at(0),
        };
        assert_eq!(backoff.until(at(600)), Some(at(900)));
        assert_eq!(backoff.until(at(601)), None);
        assert_eq!(Backoff::next(Some(backoff), at(601), at(601)).delay, INITIAL);
    }
}
