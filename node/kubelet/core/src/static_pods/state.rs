//! What is known of static pods and their mirrors, and what follows for the workers. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::mirror::{Key, MirrorAction, Shown, hash, plan, reflected};
use super::{HTTP, SOURCE};
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
    /// What the manifests on disk say.
    on_disk: Vec<Arc<Pod>>,
    /// What the fetched manifests say.
    fetched: Vec<Arc<Pod>>,
    /// The API's pods by uid, for as long as nothing was fetched although it shall be: then nobody knows which pods
    /// there are in all.
    awaiting: Option<BTreeMap<String, Arc<Pod>>>,
    /// What all of the manifests say.
    wanted: BTreeMap<Key, Arc<Pod>>,
    /// What workers have, until nothing of it is left.
    held: BTreeMap<Key, Held>,
    /// Mirror pods as the API has them.
    mirrors: BTreeMap<Key, Pod>,
    /// Whether the API has said what it has.
    known: bool,
}

fn is_fetched(mirror: &Pod) -> bool {
    let annotations = mirror.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(SOURCE))
        .is_some_and(|source| source == HTTP)
}

fn key(pod: &Pod) -> Key {
    (pod.ns().to_owned(), pod.pod_name().to_owned())
}

impl State {
    /// Takes in that manifests will be fetched. Until then nobody is told that these are all of the pods.
    pub(super) fn await_fetch(&mut self) {
        self.awaiting = Some(BTreeMap::new());
    }

    /// Takes in what the manifests on disk say now.
    pub(super) fn files(&mut self, pods: Vec<Arc<Pod>>) -> Vec<PodChange> {
        self.on_disk = pods;
        self.manifests()
    }

    /// Takes in what the fetched manifests say now.
    pub(super) fn fetched(&mut self, pods: Vec<Arc<Pod>>) -> Vec<PodChange> {
        self.fetched = pods;
        let mut out = self.manifests();
        if let Some(others) = self.awaiting.take()
            && self.known
        {
            out.push(PodChange::All(self.all(others.into_values().collect())));
        }
        out
    }

    /// Of two of one name that on disk counts.
    fn manifests(&mut self) -> Vec<PodChange> {
        let all = self.fetched.iter().chain(&self.on_disk);
        self.wanted = all.map(|pod| (key(pod), pod.clone())).collect();
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
                let (mirrors, others): (Vec<_>, Vec<_>) =
                    pods.into_iter().partition(|pod| hash(pod).is_some());
                self.mirrors = mirrors
                    .into_iter()
                    .map(|pod| (key(&pod), Pod::clone(&pod)))
                    .collect();
                self.known = true;
                self.all_of_api(others)
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
            other => {
                match (&mut self.awaiting, &other) {
                    (Some(known), PodChange::Applied(pod)) => {
                        known.insert(pod.uid().to_owned(), pod.clone());
                    }
                    (Some(known), PodChange::Deleted(pod)) => {
                        known.remove(pod.uid());
                    }
                    _ => {}
                }
                vec![other]
            }
        }
    }

    /// Takes in all of the API's own pods.
    fn all_of_api(&mut self, others: Vec<Arc<Pod>>) -> Vec<PodChange> {
        let Some(known) = &mut self.awaiting else {
            return vec![PodChange::All(self.all(others))];
        };
        let now = others.iter().map(|pod| (pod.uid().to_owned(), pod.clone()));
        let mut before = std::mem::replace(known, now.collect());
        before.retain(|uid, _| !known.contains_key(uid));
        let gone: Vec<PodChange> = before.into_values().map(PodChange::Deleted).collect();
        let all = self.all(others).into_iter().map(PodChange::Applied);
        gone.into_iter().chain(all).collect()
    }

    /// All pods: these of the API, and those of manifests.
    fn all(&self, mut others: Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
        let here = self.held.iter().filter(|(_, held)| !held.ending);
        others.extend(here.map(|(key, held)| self.shown(key, &held.pod)));
        others
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
        let mut actions = plan(&pods, &self.mirrors);
        if self.awaiting.is_some() {
            // The pod of such a mirror may be about to be fetched.
            actions.retain(|action| match action {
                MirrorAction::Create(_) => true,
                MirrorAction::Delete { key, .. } => !self.mirrors.get(key).is_some_and(is_fetched),
            });
        }
        actions
    }
}
