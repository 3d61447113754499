//! When the change happened that an endpoint object tells of, for who measures how long it takes to arrive
//! (upstream: pkg/controller/util/endpoint, TriggerTimeTracker).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use knode_client::ObjectKey;

use super::members::Member;

const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The newest change of each service that has been told of.
#[derive(Debug, Default)]
pub(super) struct Triggers(Mutex<HashMap<ObjectKey, Timestamp>>);

impl Triggers {
    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest change, if it is newer than those that were told: a pod's Ready condition, or the service's
    /// creation. What else leads to a write, such as a deleted pod, has no time.
    pub fn newest(&self, key: &ObjectKey, service: &Service, members: &[Member]) -> Option<String> {
        let newest = newest(service, members)?;
        let told = self.lock().get(key).copied();
        told.is_none_or(|told| newest > told)
            .then(|| format!("{newest:.0}"))
    }

    /// Notes that it was told.
    pub fn told(&self, key: &ObjectKey, service: &Service, members: &[Member]) {
        if let Some(newest) = newest(service, members) {
            let mut all = self.lock();
            let told = all.entry(key.clone()).or_insert(newest);
            *told = newest.max(*told);
        }
    }

    /// Forgets a service that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }
}

fn newest(service: &Service, members: &[Member]) -> Option<Timestamp> {
    let made = service.metadata.creation_timestamp.iter();
    members
        .iter()
        .filter_map(|m| m.changed.as_ref())
        .chain(made)
        .map(|t| t.0)
        .max()
}

/// Writes the time into the annotations, or takes an older one away.
pub(super) fn stamp(annotations: &mut Option<BTreeMap<String, String>>, trigger: Option<&str>) {
    match trigger {
        Some(text) => {
            annotations
                .get_or_insert_default()
                .insert(TRIGGER_TIME.into(), text.to_owned());
        }
        None => {
            if let Some(annotations) = annotations {
                annotations.remove(TRIGGER_TIME);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_told_once() {
        let (triggers, key) = (Triggers::default(), ObjectKey::new("n", "web"));
        let service: Service =
            serde_json::from_value(json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}))
                .unwrap();
        assert_eq!(
            triggers.newest(&key, &service, &[]).as_deref(),
            Some("2026-01-01T00:00:00Z")
        );
        triggers.told(&key, &service, &[]);
        assert_eq!(triggers.newest(&key, &service, &[]), None);
        let mut annotations = Some(BTreeMap::from([(TRIGGER_TIME.to_owned(), "old".to_owned())]));
        stamp(&mut annotations, None);
        assert_eq!(annotations, Some(BTreeMap::new()));
        triggers.forget(&key);
        assert!(triggers.newest(&key, &service, &[]).is_some());
    }
}
