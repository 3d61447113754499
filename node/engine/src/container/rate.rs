//! Processor time over a window: cores in billionths.

use std::sync::{Mutex, PoisonError};

/// Readings nearer to one another than this say nothing about a rate.
const WINDOW: i64 = 500_000_000;

/// The last reading of a counter of nanoseconds, and the rate up to it.
#[derive(Debug, Default)]
pub(crate) struct Rate(Mutex<Option<Reading>>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: i64,
    total: u64,
    rate: Option<u64>,
}

impl Rate {
    /// Takes a reading at the time `at` (nanoseconds); gives the rate since an earlier one, `None` without one.
    pub(crate) fn read(&self, at: i64, total: u64) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = next(*last, at, total);
        *last = Some(next);
        next.rate
    }
}

fn next(last: Option<Reading>, at: i64, total: u64) -> Reading {
    let first = Reading {
        at,
        total,
        rate: None,
    };
    match last {
        // A counter that goes back belongs to another control group.
        Some(last) if total < last.total || at < last.at => first,
        Some(last) if at - last.at < WINDOW => last,
        Some(last) => {
            let (used, passed) = (u128::from(total - last.total), (at - last.at).unsigned_abs());
            let rate = u64::try_from(used * 1_000_000_000 / u128::from(passed)).ok();
            Reading { at, total, rate }
        }
        None => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_time_between_two_readings() {
        let rate = Rate::default();
        let second = 1_000_000_000;
        assert_eq!(rate.read(second, 100), None);
        assert_eq!(rate.read(3 * second, 100 + 500_000_000), Some(250_000_000));
        // Too soon: the last one stands, and the window goes on from there.
        assert_eq!(rate.read(3 * second + 1, u64::MAX), Some(250_000_000));
        assert_eq!(rate.read(4 * second, 100 + 500_000_000), Some(0));
        assert_eq!(rate.read(5 * second, 0), None, "another counter");
    }
}
