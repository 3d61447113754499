//! What is known of objects that are read from the store: there are many of them, each is read seldom, and all of them
//! go after a while.

use std::collections::BTreeMap;
use std::ops::Bound;

use jiff::Timestamp;
use knode_store::Revision;

/// For an object that does not expire.
const NEVER: i64 = i64::MAX;

/// The objects of a table by their keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeMap<Box<str>, Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    revision: Revision,
    /// Second since 1970 from which on it is expired.
    expires: i64,
}

impl Index {
    /// Takes in a write.
    pub fn put(&mut self, key: &str, revision: Revision, expires: Option<Timestamp>) {
        let expires = expires.map_or(NEVER, Timestamp::as_second);
        let entry = Entry { revision, expires };
        match self.entries.get_mut(key) {
            Some(known) => *known = entry,
            None => drop(self.entries.insert(key.into(), entry)),
        }
    }

    /// Takes in a deletion; false if there is no such object.
    pub fn remove(&mut self, key: &str) -> bool {
        self.entries.remove(key).is_some()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many keys with a prefix come after one of them.
    pub fn count_after(&self, prefix: &str, last: &str) -> usize {
        let range = self
            .entries
            .range::<str, _>((Bound::Excluded(last), Bound::Unbounded));
        range.take_while(|(key, _)| key.starts_with(prefix)).count()
    }

    /// Keys and revisions of objects that are expired.
    pub fn expired(&self, now: Timestamp) -> Vec<(Box<str>, Revision)> {
        let now = now.as_second();
        let expired = self.entries.iter().filter(|(_, entry)| entry.expires < now);
        expired
            .map(|(key, entry)| (key.clone(), entry.revision))
            .collect()
    }

    /// Bytes that it holds, about: a tree's nodes are three quarters full.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let entry = size_of::<(Box<str>, Entry)>() * 4 / 3;
        self.entries.keys().map(|key| key.len() + entry).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_over_is_found_with_its_last_revision() {
        let mut index = Index::default();
        index.put("a/x", 1, Some(at(100)));
        index.put("a/y", 2, Some(at(200)));
        index.put("a/z", 3, None);
        assert_eq!(index.expired(at(100)), []);
        assert_eq!(index.expired(at(101)), [("a/x".into(), 1)]);
        index.put("a/x", 4, Some(at(300)));
        assert_eq!(index.expired(at(201)), [("a/y".into(), 2)]);
        assert!(index.remove("a/y") && !index.remove("a/y"));
        assert_eq!(index.expired(at(i64::from(i32::MAX))), [("a/x".into(), 4)]);
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn keys_are_counted_in_their_namespace() {
        let mut index = Index::default();
        for key in ["a/1", "a/2", "a/3", "b/1"] {
            index.put(key, 1, None);
        }
        assert_eq!(index.count_after("a/", "a/1"), 2);
        assert_eq!(index.count_after("", "a/2"), 2);
        assert_eq!(index.count_after("a/", "a/3"), 0);
    }

    #[test]
    fn an_event_of_a_pod_takes_little_room() {
        let mut index = Index::default();
        for number in 0..13_000_u64 {
            let key = format!(
                "default/web-7d4b9c6f5d-{:05x}.17f3a2b4c5d6e{number:03x}",
                number / 5
            );
            index.put(&key, number, Some(at(1_700_000_000)));
        }
        let each = index.bytes() / index.len();
        assert!(each < 128, "{each} bytes");
    }
}
