//! How often the API answers (upstream: `podresources/constants.go`).

use std::time::Duration;

/// Answers a second.
const RATE: f64 = 100.0;

/// Answers that may come at once.
const BURST: f64 = 10.0;

/// A bucket of tokens, of which each answer takes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    tokens: f64,
    at: Duration,
}

impl Limit {
    /// Full at `now` (monotonic).
    pub(super) fn new(now: Duration) -> Self {
        Self {
            tokens: BURST,
            at: now,
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * RATE).min(BURST);
        self.at = now;
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_at_once_and_one_each_ten_milliseconds() {
        let at = Duration::from_millis;
        let mut limit = Limit::new(at(0));
        let taken = (0..20).filter(|_| limit.take(at(0))).count();
        assert_eq!(taken, 10);
        assert!(limit.take(at(11)) && !limit.take(at(12)));
        let taken = (0..20).filter(|_| limit.take(at(1000))).count();
        assert_eq!(taken, 10, "no more than fit are kept");
    }
}
