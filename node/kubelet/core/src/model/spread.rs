//! Pods that fail together, because the API server went, don't come back together.

use jiff::{SignedDuration, Timestamp};
use knode_api::hash::share;

/// `least` milliseconds from now, and up to `more` on top: each pod has its own share of these, always the same.
pub(crate) fn after_spread(now: Timestamp, uid: &str, least: i64, more: u32) -> Timestamp {
    let wait = SignedDuration::from_millis(least.saturating_add(share(uid, more).into()));
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn pods_come_one_after_the_other() {
        let mut by_second: BTreeMap<i64, usize> = BTreeMap::new();
        for pod in 0..500 {
            let at = after_spread(Timestamp::UNIX_EPOCH, &format!("uid-{pod}"), 10_000, 5000);
            assert!((10_000..=15_000).contains(&at.as_millisecond()), "{at}");
            *by_second.entry(at.as_second()).or_default() += 1;
        }
        assert!(by_second.values().all(|count| *count < 150), "{by_second:?}");
    }
}
