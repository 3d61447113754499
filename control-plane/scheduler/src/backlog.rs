//! Pods that wait for a node, and in what state each is. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use knode_client::ObjectKey;

use crate::model::Pod;

/// What a waiting pod waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its turn.
    Ready,
    /// A change that could make room for it.
    Parked,
    /// The answer to its binding.
    Binding,
    /// The end of a pause after a binding that failed.
    Pausing,
}

/// The turn of a pod: higher priority first, then older, then by name.
type Turn = (Reverse<i32>, Option<Timestamp>, ObjectKey);

#[derive(Debug)]
struct Waiting {
    pod: Pod,
    state: State,
    failures: u32,
}

/// The waiting pods.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pods: HashMap<ObjectKey, Waiting>,
    ready: BTreeSet<Turn>,
}

impl Backlog {
    /// Takes in a pod that waits, new or changed. A change of its status alone is no reason to try again.
    pub(crate) fn upsert(&mut self, pod: Pod) {
        let key = pod.key.clone();
        if let Some(known) = self.pods.get_mut(&key)
            && known.pod.uid == pod.uid
        {
            let same = known.pod.generation == pod.generation && known.pod.wanted == pod.wanted;
            let (before, state) = (turn(&known.pod), known.state);
            known.pod = pod;
            match state {
                State::Parked if !same => self.make_ready(&key),
                State::Ready => {
                    self.ready.remove(&before);
                    self.make_ready(&key);
                }
                State::Parked | State::Binding | State::Pausing => {}
            }
            return;
        }
        self.remove(&key);
        self.pods.insert(
            key.clone(),
            Waiting {
                pod,
                state: State::Ready,
                failures: 0,
            },
        );
        self.make_ready(&key);
    }

    /// Forgets a pod.
    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        if let Some(gone) = self.pods.remove(key) {
            self.ready.remove(&turn(&gone.pod));
        }
    }

    /// Something changed that could make room: every parked pod has its turn again.
    pub(crate) fn retry_all(&mut self) {
        let parked = self
            .pods
            .iter()
            .filter(|(_, waiting)| waiting.state == State::Parked);
        let keys: Vec<ObjectKey> = parked.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.make_ready(&key);
        }
    }

    /// Claims or volumes changed: every parked pod that has some has its turn again.
    pub(crate) fn retry_claimants(&mut self) {
        let parked = self
            .pods
            .iter()
            .filter(|(_, waiting)| waiting.state == State::Parked && !waiting.pod.claims.is_empty());
        let keys: Vec<ObjectKey> = parked.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.make_ready(&key);
        }
    }

    /// The pod whose turn it is; it is parked unless [`Backlog::binding`] says otherwise.
    pub(crate) fn next(&mut self) -> Option<Pod> {
        let (_, _, key) = self.ready.pop_first()?;
        let waiting = self.pods.get_mut(&key)?;
        waiting.state = State::Parked;
        Some(waiting.pod.clone())
    }

    /// The pod is being bound.
    pub(crate) fn binding(&mut self, key: &ObjectKey) {
        if let Some(waiting) = self.pods.get_mut(key) {
            waiting.state = State::Binding;
        }
    }

    /// True while the pod with this uid is being bound.
    pub(crate) fn is_binding(&self, key: &ObjectKey, uid: &str) -> bool {
        self.pods
            .get(key)
            .is_some_and(|waiting| waiting.state == State::Binding && waiting.pod.uid == uid)
    }

    /// The binding failed: the pod pauses. Answers how many times in a row it has failed before.
    pub(crate) fn failed(&mut self, key: &ObjectKey) -> u32 {
        let Some(waiting) = self.pods.get_mut(key) else {
            return 0;
        };
        waiting.state = State::Pausing;
        waiting.failures += 1;
        waiting.failures - 1
    }

    /// The pause of a pod is over.
    pub(crate) fn resume(&mut self, key: &ObjectKey) {
        if self
            .pods
            .get(key)
            .is_some_and(|waiting| waiting.state == State::Pausing)
        {
            self.make_ready(key);
        }
    }

    /// Keys of all waiting pods.
    pub(crate) fn keys(&self) -> Vec<ObjectKey> {
        self.pods.keys().cloned().collect()
    }

    fn make_ready(&mut self, key: &ObjectKey) {
        if let Some(waiting) = self.pods.get_mut(key) {
            waiting.state = State::Ready;
            self.ready.insert(turn(&waiting.pod));
        }
    }
}

fn turn(pod: &Pod) -> Turn {
    (Reverse(pod.priority), pod.created, pod.key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, priority: i32, generation: i64) -> Pod {
        let object = json!({
            "metadata": {
                "name": name, "namespace": "ns", "uid": name, "generation": generation,
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"containers": [], "priority": priority},
        });
        Pod::of(&serde_json::from_value(object).unwrap())
    }

    fn names(backlog: &mut Backlog) -> Vec<String> {
        std::iter::from_fn(|| backlog.next())
            .map(|pod| pod.key.name)
            .collect()
    }

    #[test]
    fn the_urgent_go_first_and_each_once() {
        let mut backlog = Backlog::default();
        for (name, priority) in [("b", 0), ("c", 0), ("a", 0), ("urgent", 9)] {
            backlog.upsert(pod(name, priority, 1));
        }
        assert_eq!(names(&mut backlog), ["urgent", "a", "b", "c"]);
        assert_eq!(names(&mut backlog), Vec::<String>::new());
    }

    #[test]
    fn parked_pods_come_back_when_something_changes() {
        let mut backlog = Backlog::default();
        backlog.upsert(pod("a", 0, 1));
        assert_eq!(names(&mut backlog), ["a"]);
        backlog.upsert(pod("a", 0, 1));
        assert_eq!(names(&mut backlog), Vec::<String>::new());
        backlog.upsert(pod("a", 0, 2));
        assert_eq!(names(&mut backlog), ["a"]);
        backlog.retry_all();
        assert_eq!(names(&mut backlog), ["a"]);
        backlog.remove(&pod("a", 0, 1).key);
        backlog.retry_all();
        assert_eq!(names(&mut backlog), Vec::<String>::new());
    }

    #[test]
    fn a_pod_that_is_being_bound_waits_for_the_answer() {
        let mut backlog = Backlog::default();
        let a = pod("a", 0, 1);
        backlog.upsert(a.clone());
        let key = backlog.next().unwrap().key;
        backlog.binding(&key);
        backlog.retry_all();
        backlog.upsert(pod("a", 0, 2));
        assert!(backlog.is_binding(&key, "a") && backlog.next().is_none());
        assert_eq!((backlog.failed(&key), backlog.failed(&key)), (0, 1));
        backlog.retry_all();
        assert!(backlog.next().is_none());
        backlog.resume(&key);
        assert_eq!(names(&mut backlog), ["a"]);
    }
}
