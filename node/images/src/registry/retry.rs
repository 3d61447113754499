//! When a request is tried again. Pure.

use std::time::Duration;

/// How often, and after which pauses, a request that failed for a passing reason is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Failures in a row, without a mebibyte in between, after which it is given up.
    pub attempts: u32,
    /// The pause after the first failure; it doubles.
    pub first: Duration,
    /// No pause is longer, whatever the registry asks for.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    /// Five failures in a row, 250 ms doubling to 30 s.
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(250),
            longest: Duration::from_secs(30),
        }
    }
}

/// What counts as progress: a registry that sends a few bytes each time is given up all the same.
const PROGRESS: u64 = 1 << 20;
/// Failures of one transfer, with progress in between, for each attempt that the policy allows.
const PATIENCE: u32 = 20;

/// The failures of one transfer.
#[derive(Debug, Clone)]
pub(crate) struct Retry {
    policy: RetryPolicy,
    in_a_row: u32,
    all: u32,
    since_failure: u64,
}

impl Retry {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            in_a_row: 0,
            all: 0,
            since_failure: 0,
        }
    }

    /// Notes bytes that arrived.
    pub(crate) fn progressed(&mut self, bytes: u64) {
        self.since_failure += bytes;
        if self.since_failure >= PROGRESS {
            self.in_a_row = 0;
        }
    }

    /// Notes a failure: the pause before the next attempt, or `None` when it is given up. `asked` is the registry's
    /// `Retry-After`, `random` in `[0, 1)` spreads the attempts of many nodes.
    pub(crate) fn failed(&mut self, asked: Option<Duration>, random: f64) -> Option<Duration> {
        self.since_failure = 0;
        self.in_a_row += 1;
        self.all += 1;
        let policy = &self.policy;
        if self.in_a_row >= policy.attempts || self.all >= policy.attempts.saturating_mul(PATIENCE) {
            return None;
        }
        let doubled = policy.first.saturating_mul(1 << (self.in_a_row - 1).min(16));
        let grown = doubled.mul_f64(1.0 + 0.5 * random.clamp(0.0, 1.0));
        Some(asked.unwrap_or(Duration::ZERO).max(grown).min(policy.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: 4,
        first: Duration::from_millis(100),
        longest: Duration::from_secs(1),
    };

    #[test]
    fn pauses_double_and_end() {
        let mut retry = Retry::new(POLICY);
        let pauses: Vec<_> = (0..4).map(|_| retry.failed(None, 0.0)).collect();
        let millis = |millis| Some(Duration::from_millis(millis));
        assert_eq!(pauses, [millis(100), millis(200), millis(400), None]);
    }

    #[test]
    fn the_registry_s_wish_counts_up_to_a_bound() {
        let wish = |seconds| Retry::new(POLICY).failed(Some(Duration::from_millis(seconds)), 0.9);
        assert_eq!(wish(10), Some(Duration::from_millis(145)));
        assert_eq!(wish(500), Some(Duration::from_millis(500)));
        assert_eq!(wish(3_600_000), Some(Duration::from_secs(1)));
    }

    #[test]
    fn progress_earns_new_attempts_but_not_without_end() {
        let mut retry = Retry::new(POLICY);
        let mut failures = 0;
        while retry.failed(None, 0.0).is_some() {
            retry.progressed(PROGRESS);
            failures += 1;
        }
        assert_eq!(failures, 79);
        let mut retry = Retry::new(POLICY);
        let drips = std::iter::from_fn(|| {
            retry.progressed(1000);
            retry.failed(None, 0.0)
        });
        assert_eq!(drips.count(), 3);
    }
}
