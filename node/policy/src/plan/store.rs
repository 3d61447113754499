use std::collections::HashMap;
use std::hash::Hash;

/// Things that are there as long as they are used. They outlive their last use until [`Store::sweep`], so that what
/// is wanted again at once was never gone.
#[derive(Debug)]
pub(super) struct Store<K, V> {
    entries: HashMap<K, Held<V>>,
    idle: Vec<K>,
    made: Vec<K>,
}

#[derive(Debug)]
struct Held<V> {
    uses: usize,
    is_new: bool,
    value: V,
}

impl<K, V> Default for Store<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            idle: Vec::new(),
            made: Vec::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V> Store<K, V> {
    /// One use more; says whether it had to be made.
    pub fn acquire(&mut self, key: &K, make: impl FnOnce() -> V) -> bool {
        if let Some(held) = self.entries.get_mut(key) {
            held.uses += 1;
            return false;
        }
        let held = Held {
            uses: 1,
            is_new: true,
            value: make(),
        };
        self.entries.insert(key.clone(), held);
        self.made.push(key.clone());
        true
    }

    /// One use less.
    pub fn release(&mut self, key: &K) {
        let Some(held) = self.entries.get_mut(key) else {
            debug_assert!(false, "what is released was acquired");
            return;
        };
        held.uses -= 1;
        if held.uses == 0 {
            self.idle.push(key.clone());
        }
    }

    /// Drops what has no use any more.
    pub fn sweep(&mut self) -> Vec<Dropped<K, V>> {
        let mut dropped = Vec::new();
        for key in std::mem::take(&mut self.idle) {
            let is_idle = self.entries.get(&key).is_some_and(|held| held.uses == 0);
            if let Some(held) = is_idle.then(|| self.entries.remove(&key)).flatten() {
                dropped.push(Dropped {
                    key,
                    value: held.value,
                    was_new: held.is_new,
                });
            }
        }
        dropped
    }

    /// What was made since the last time and is still there; it is no longer new.
    pub fn take_new(&mut self) -> Vec<K> {
        let mut made = std::mem::take(&mut self.made);
        made.retain(|key| {
            let held = self.entries.get_mut(key).filter(|held| held.is_new);
            held.map(|held| held.is_new = false).is_some()
        });
        made
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        Some(&self.entries.get(key)?.value)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        Some(&mut self.entries.get_mut(key)?.value)
    }

    /// Whether it is there and was at the last taking.
    pub fn is_known(&self, key: &K) -> bool {
        self.entries.get(key).is_some_and(|held| !held.is_new)
    }

    /// What is there, used or not.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What a [`Store`] has dropped.
#[derive(Debug)]
pub(super) struct Dropped<K, V> {
    pub key: K,
    pub value: V,
    /// Nobody outside has ever heard of it.
    pub was_new: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_before_the_sweep_was_never_gone() {
        let mut store = Store::<&str, ()>::default();
        assert!(store.acquire(&"a", || ()));
        assert!(!store.is_known(&"a"));
        assert_eq!(store.take_new(), ["a"]);
        store.release(&"a");
        assert!(!store.acquire(&"a", || ()), "it is still there");
        assert!(store.sweep().is_empty());
        store.release(&"a");
        store.acquire(&"b", || ());
        store.release(&"b");
        let dropped: Vec<_> = store.sweep().into_iter().map(|d| (d.key, d.was_new)).collect();
        assert_eq!(dropped, [("a", false), ("b", true)]);
        assert!(store.take_new().is_empty() && store.is_empty());
    }
}
