//! What a controller has written and its cache may not show yet. A reconcile that ran on such a cache would do
//! the same work twice: make a second pod, a second slice (upstream: controller expectations, slice tracker).

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use knode_client::{Cache, ObjectKey};
use kube::Resource;
use serde::de::DeserializeOwned;

/// After this long the cache is believed whatever it shows: the object may have come and gone unseen.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes by the key they were made for.
#[derive(Debug, Default)]
pub(crate) struct Unseen {
    pending: Mutex<HashMap<ObjectKey, Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    /// When the last write was made, by the monotonic clock.
    since: Duration,
    /// What to wait for, by the object's name.
    objects: HashMap<String, Awaited>,
}

#[derive(Debug, PartialEq, Eq)]
enum Awaited {
    /// This resourceVersion of it, or a later one.
    Version(u64),
    /// That the object of this uid is gone or going.
    Gone(String),
}

fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref()?.parse().ok()
}

impl Awaited {
    fn is_seen<K: Resource>(&self, cached: Option<&K>) -> bool {
        match (self, cached) {
            (Self::Version(wanted), Some(object)) => version(object).is_none_or(|version| version >= *wanted),
            (Self::Version(_), None) => false,
            (Self::Gone(_), None) => true,
            (Self::Gone(uid), Some(object)) => {
                let meta = object.meta();
                meta.uid.as_ref() != Some(uid) || meta.deletion_timestamp.is_some()
            }
        }
    }
}

impl Unseen {
    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, key: &ObjectKey, name: Option<&String>, awaited: Awaited, now: Duration) {
        let Some(name) = name else { return };
        let mut all = self.lock();
        let pending = all.entry(key.clone()).or_default();
        pending.since = now;
        pending.objects.insert(name.clone(), awaited);
    }

    /// Notes an object as the server answered it.
    pub(crate) fn wrote<K: Resource>(&self, key: &ObjectKey, object: &K, now: Duration) {
        if let Some(version) = version(object) {
            self.note(key, object.meta().name.as_ref(), Awaited::Version(version), now);
        }
    }

    /// Notes an object whose deletion the server accepted.
    pub(crate) fn deleted<K: Resource>(&self, key: &ObjectKey, object: &K, now: Duration) {
        let uid = object.meta().uid.clone().unwrap_or_default();
        self.note(key, object.meta().name.as_ref(), Awaited::Gone(uid), now);
    }

    /// How long at most to wait for the cache; nothing if it shows everything that was written for this key.
    /// The event that shows it brings the key back.
    pub(crate) fn behind<K>(&self, key: &ObjectKey, cache: &Cache<K>, now: Duration) -> Option<Duration>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        self.behind_with(key, now, |name, awaited| {
            awaited.is_seen(cache.get(&key.namespace, name).as_deref())
        })
    }

    fn behind_with(
        &self,
        key: &ObjectKey,
        now: Duration,
        is_seen: impl Fn(&str, &Awaited) -> bool,
    ) -> Option<Duration> {
        let mut all = self.lock();
        let pending = all.get_mut(key)?;
        pending.objects.retain(|name, awaited| !is_seen(name, awaited));
        let left = PATIENCE.saturating_sub(now.saturating_sub(pending.since));
        if pending.objects.is_empty() || left.is_zero() {
            all.remove(key);
            return None;
        }
        Some(left)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(version: &str, deleting: bool) -> Pod {
        let at = deleting.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({"metadata": {
            "name": "p", "namespace": "n", "uid": "u", "resourceVersion": version, "deletionTimestamp": at}}))
        .unwrap()
    }

    #[test]
    fn a_write_is_awaited_until_the_cache_has_it_or_a_later_one() {
        let (unseen, key, s) = (Unseen::default(), ObjectKey::new("n", "set"), Duration::from_secs);
        let sees = |cached: Option<Pod>, now| {
            unseen.behind_with(&key, now, |_, awaited| awaited.is_seen(cached.as_ref()))
        };
        assert_eq!(sees(None, s(1)), None, "nothing was written");
        unseen.wrote(&key, &pod("7", false), s(1));
        assert_eq!(sees(None, s(2)), Some(s(4)));
        assert_eq!(sees(Some(pod("6", false)), s(2)), Some(s(4)));
        assert_eq!(sees(Some(pod("8", false)), s(2)), None);
        assert_eq!(sees(None, s(2)), None, "it was seen once");
    }

    #[test]
    fn a_deletion_is_awaited_and_patience_ends() {
        let (unseen, key, s) = (Unseen::default(), ObjectKey::new("n", "set"), Duration::from_secs);
        let sees = |cached: Option<Pod>, now| {
            unseen.behind_with(&key, now, |_, awaited| awaited.is_seen(cached.as_ref()))
        };
        unseen.deleted(&key, &pod("7", false), s(1));
        assert_eq!(sees(Some(pod("7", false)), s(1)), Some(s(5)));
        assert_eq!(sees(Some(pod("8", true)), s(1)), None);
        unseen.deleted(&key, &pod("7", false), s(10));
        assert_eq!(
            sees(Some(pod("7", false)), s(16)),
            None,
            "the cache is believed in the end"
        );
    }
}
