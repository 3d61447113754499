//! What is known of static pods and their mirrors, and what follows for the workers. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::mirror::{Key, MirrorAction, Shown, hash, plan, reflected};
use crate::api::PodChange;
use crate::pod::PodExt;

/// A static pod that the workers have been told of.
struct Held {
    pod: Arc<Pod>,
    /// Its manifest is gone or has changed.
    ending: bool,
}

/// Static pods and mirrors by namespace and name.
#[derive(Default)]
pub(super) struct State {
    /// What the manifests say.
    wanted: BTreeMap<Key, Arc<Pod>>,
    /// What workers have, until nothing of it is left.
    held: BTreeMap<Key, Held>,
    /// Mirror pods as the API has them.
    mirrors: BTreeMap<Key, Pod>,
    /// Whether the API has said what it has.
    known: bool,
}

fn key(pod: &Pod) -> Key {
    (pod.ns().to_owned(), pod.pod_name().to_owned())
}

impl State {
    /// Takes in what the manifests say now.
    pub(super) fn files(&mut self, pods: Vec<Arc<Pod>>) -> Vec<PodChange> {
        self.wanted = pods.into_iter().map(|pod| (key(&pod), pod)).collect();
        let mut out = Vec::new();
        for (key, held) in &mut self.held {
            let same = self
                .wanted
                .get(key)
                .is_some_and(|pod| pod.uid() == held.pod.uid());
            if !same && !held.ending {
                held.ending = true;
                out.push(PodChange::Deleted(held.pod.clone()));
            }
        }
        out.extend(self.begin());
        out
    }

    /// Hands over pods whose name is free.
    fn begin(&mut self) -> Vec<PodChange> {
        let free = |key: &Key| !self.held.contains_key(key);
        let new: Vec<(Key, Arc<Pod>)> = self
            .wanted
            .iter()
            .filter(|(key, _)| free(key))
            .map(|(key, pod)| (key.clone(), pod.clone()))
            .collect();
        let mut out = Vec::new();
        for (key, pod) in new {
            out.push(PodChange::Applied(self.shown(&key, &pod)));
            self.held.insert(key, Held { pod, ending: false });
        }
        out
    }

    /// Takes in that nothing is left of the pod with this uid on the node.
    pub(super) fn gone(&mut self, pod: &Pod) -> Vec<PodChange> {
        let key = key(pod);
        let ended = |held: &Held| held.ending && held.pod.uid() == pod.uid();
        if !self.held.get(&key).is_some_and(ended) {
            return Vec::new();
        }
        self.held.remove(&key);
        self.begin()
    }

    /// Takes in a change of the API's pods: mirrors stay here, all others go on.
    pub(super) fn api(&mut self, change: PodChange) -> Vec<PodChange> {
        match change {
            PodChange::All(pods) => {
                let (mirrors, mut others): (Vec<_>, Vec<_>) =
                    pods.into_iter().partition(|pod| hash(pod).is_some());
                self.mirrors = mirrors
                    .into_iter()
                    .map(|pod| (key(&pod), Pod::clone(&pod)))
                    .collect();
                self.known = true;
                let here = self.held.iter().filter(|(_, held)| !held.ending);
                others.extend(here.map(|(key, held)| self.shown(key, &held.pod)));
                vec![PodChange::All(others)]
            }
            PodChange::Applied(pod) if hash(&pod).is_some() => {
                let key = key(&pod);
                self.mirrors.insert(key.clone(), Pod::clone(&pod));
                let held = self.held.get(&key).filter(|held| !held.ending);
                let shown = held.map(|held| self.shown(&key, &held.pod));
                shown.map(PodChange::Applied).into_iter().collect()
            }
            PodChange::Deleted(pod) if hash(&pod).is_some() => {
                let key = key(&pod);
                if self
                    .mirrors
                    .get(&key)
                    .is_some_and(|mirror| mirror.uid() == pod.uid())
                {
                    self.mirrors.remove(&key);
                }
                Vec::new()
            }
            other => vec![other],
        }
    }

    /// The pod with what its mirror says.
    fn shown(&self, key: &Key, pod: &Arc<Pod>) -> Arc<Pod> {
        match self.mirrors.get(key) {
            Some(mirror) if hash(mirror).map(String::as_str) == Some(pod.uid()) => {
                Arc::new(reflected(pod, mirror))
            }
            _ => pod.clone(),
        }
    }

    /// The static pod with that name and uid, and the uid of its mirror, if that is there.
    pub(super) fn of_uid(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Option<(Arc<Pod>, Option<String>)> {
        let key = (namespace.to_owned(), name.to_owned());
        let held = self.held.get(&key).filter(|held| held.pod.uid() == uid)?;
        let mirror = self.mirrors.get(&key);
        let mirror = mirror.filter(|mirror| hash(mirror).map(String::as_str) == Some(uid));
        Some((held.pod.clone(), mirror.map(|mirror| mirror.uid().to_owned())))
    }

    /// The static pod of that name whose mirror is to be made.
    pub(super) fn wanted(&self, key: &Key) -> Option<Arc<Pod>> {
        self.wanted.get(key).cloned()
    }

    /// What to do at the API; nothing before it has said what it has.
    pub(super) fn mirror_actions(&self) -> Vec<MirrorAction> {
        if !self.known {
            return Vec::new();
        }
        let shown = |key: &Key, held: &Held| {
            let shown = Shown {
                hash: held.pod.uid().to_owned(),
                wanted: !held.ending,
            };
            (key.clone(), shown)
        };
        let pods = self.held.iter().map(|(key, held)| shown(key, held)).collect();
        plan(&pods, &self.mirrors)
    }
}
