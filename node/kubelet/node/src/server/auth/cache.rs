//! Answers that are good for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const CAPACITY: usize = 1024;

/// Values with an end, measured on a monotonic clock.
pub(super) struct Expiring<K, V> {
    entries: Mutex<HashMap<K, (Duration, V)>>,
}

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self {
            entries: Mutex::new(HashMap::new()),
        }
    }
}

impl<K: Eq + Hash, V: Clone> Expiring<K, V> {
    pub(super) fn get(&self, key: &K, now: Duration) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .get(key)
            .filter(|(end, _)| now < *end)
            .map(|(_, value)| value.clone())
    }

    pub(super) fn insert(&self, key: K, value: V, end: Duration, now: Duration) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CAPACITY {
            entries.retain(|_, (end, _)| now < *end);
        }
        if entries.len() >= CAPACITY {
            entries.clear();
        }
        entries.insert(key, (end, value));
    }
}
