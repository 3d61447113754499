//! What plugins answered, as long as it may be used. Pure.

use std::collections::HashMap;
use std::time::Duration;

use knode_cri::AuthConfig;

/// For which images an answer may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CacheKey {
    /// The image asked for.
    Image,
    /// Every image of its registry.
    Registry,
    /// Every image.
    Global,
}

/// Credentials, each with the pattern of images that it is for.
pub(super) type Credentials = Vec<(String, AuthConfig)>;

/// For what an answer may be used: which images, their name, and whose pods (see [`super::account::Identity::key`]).
type Place = (CacheKey, String, String);

/// Answers by what they are for, with the time at which they end.
#[derive(Default)]
pub(super) struct Cache {
    entries: HashMap<Place, (Duration, Credentials)>,
}

impl Cache {
    /// What is known for `image` and the pods of `account` at the time `now`.
    pub(super) fn get(&mut self, image: &str, account: &str, now: Duration) -> Option<Credentials> {
        self.entries.retain(|_, (end, _)| *end > now);
        let known = [CacheKey::Image, CacheKey::Registry, CacheKey::Global];
        let mut known = known
            .iter()
            .filter_map(|key| self.entries.get(&(*key, name(*key, image), account.to_owned())));
        known.next().map(|(_, credentials)| credentials.clone())
    }

    /// Keeps an answer for as long as it says; no time at all keeps nothing.
    pub(super) fn insert(
        &mut self,
        key: CacheKey,
        (image, account): (&str, &str),
        credentials: Credentials,
        keep: Duration,
        now: Duration,
    ) {
        if !keep.is_zero() {
            let end = now.saturating_add(keep);
            let place = (key, name(key, image), account.to_owned());
            self.entries.insert(place, (end, credentials));
        }
    }
}

fn name(key: CacheKey, image: &str) -> String {
    match key {
        CacheKey::Image => image.to_owned(),
        CacheKey::Registry => image.split('/').next().unwrap_or_default().to_owned(),
        CacheKey::Global => String::new(),
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn answers_serve_what_they_are_for_until_they_end() {
        let second = Duration::from_secs;
        let of = |name: &str| vec![(name.to_owned(), AuthConfig::default())];
        let told = |cache: &mut Cache, image: &str, now| {
            cache.get(image, "", second(now)).map(|found| found[0].0.clone())
        };
        let mut cache = Cache::default();
        cache.insert(
            CacheKey::Global,
            ("a.io/x", ""),
            of("global"),
            second(30),
            second(0),
        );
        cache.insert(
            CacheKey::Registry,
            ("a.io/x", ""),
            of("registry"),
            second(20),
            second(0),
        );
        cache.insert(
            CacheKey::Image,
            ("a.io/x", ""),
            of("image"),
            second(10),
            second(0),
        );
        cache.insert(CacheKey::Image, ("b.io/x", ""), of("never"), second(0), second(0));
        assert_eq!(told(&mut cache, "a.io/x", 9).as_deref(), Some("image"));
        assert_eq!(told(&mut cache, "a.io/y", 9).as_deref(), Some("registry"));
        assert_eq!(told(&mut cache, "a.io/x", 10).as_deref(), Some("registry"));
        assert_eq!(told(&mut cache, "b.io/x", 9).as_deref(), Some("global"));
        assert_eq!(told(&mut cache, "a.io/x", 30), None);
        cache.insert(
            CacheKey::Image,
            ("a.io/x", "one"),
            of("one"),
            second(9),
            second(31),
        );
        assert_eq!(told(&mut cache, "a.io/x", 32), None, "another account's");
        assert!(cache.get("a.io/x", "one", second(32)).is_some());
    }
}
