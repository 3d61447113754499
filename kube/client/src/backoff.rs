//! How long to wait before trying again.

use std::time::Duration;

/// Exponential growth with an upper bound and jitter; pure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The first delay.
    pub initial: Duration,
    /// No delay is longer (before jitter).
    pub max: Duration,
    /// Growth from one delay to the next, at least 1.
    pub factor: f64,
    /// Share of the delay that is added at random: 0.5 means up to half as much again.
    pub jitter: f64,
}

impl Backoff {
    /// What watches and requests use against an API server: 0.8 s doubling to 30 s with jitter
    /// (client-go's reflector).
    pub const API: Self = Self {
        initial: Duration::from_millis(800),
        max: Duration::from_secs(30),
        factor: 2.0,
        jitter: 1.0,
    };

    /// What work queues use for a failing key: 5 ms doubling to 1000 s (client-go's default rate limiter).
    pub const QUEUE: Self = Self {
        initial: Duration::from_millis(5),
        max: Duration::from_secs(1000),
        factor: 2.0,
        jitter: 0.0,
    };

    /// The delay after `failures` failures before this one; `random` in `[0, 1)`.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let exponent = i32::try_from(failures).unwrap_or(i32::MAX);
        let grown = self.initial.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        let bounded = grown.min(self.max.as_secs_f64());
        Duration::from_secs_f64(bounded * (1.0 + self.jitter.max(0.0) * random.clamp(0.0, 1.0)))
    }
}

/// Counts failures in a row.
#[derive(Clone, Debug)]
pub struct Retry {
    backoff: Backoff,
    failures: u32,
}

impl Retry {
    /// Starts without failures.
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, failures: 0 }
    }

    /// Notes a failure and says how long to wait.
    pub fn failed(&mut self) -> Duration {
        let delay = self.backoff.delay(self.failures, rand::random::<f64>());
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// Notes a success.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}
