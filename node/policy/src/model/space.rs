use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::labels::LabelPool;
use super::{Key, Labels, Name, Namespaces, Pod, Policy};

/// A namespace, whether or not the object itself is known.
#[derive(Debug, Default)]
pub struct Space {
    /// Its labels, once they are known.
    pub labels: Option<Arc<Labels>>,
    /// Its pods.
    pub pods: HashMap<Name, Arc<Pod>>,
    /// Its policies.
    pub policies: BTreeMap<Name, Arc<Policy>>,
}

impl Space {
    fn is_empty(&self) -> bool {
        self.labels.is_none() && self.pods.is_empty() && self.policies.is_empty()
    }
}

/// What is known of the cluster.
#[derive(Debug, Default)]
pub struct Model {
    spaces: HashMap<Name, Space>,
    labels: LabelPool,
    policies: usize,
}

impl Model {
    /// The namespaces of which anything is known.
    pub fn spaces(&self) -> impl Iterator<Item = (&Name, &Space)> {
        self.spaces.iter()
    }

    /// What is known of a namespace.
    pub fn space(&self, namespace: &str) -> Option<&Space> {
        self.spaces.get(namespace)
    }

    /// A pod.
    pub fn pod(&self, key: &Key) -> Option<&Arc<Pod>> {
        self.spaces.get(&key.namespace)?.pods.get(&key.name)
    }

    /// A policy.
    pub fn policy(&self, key: &Key) -> Option<&Arc<Policy>> {
        self.spaces.get(&key.namespace)?.policies.get(&key.name)
    }

    /// How many policies there are.
    pub fn policies(&self) -> usize {
        self.policies
    }

    /// Whether a selector looks into this namespace.
    pub fn holds(&self, namespaces: &Namespaces, name: &str) -> bool {
        let labels = self.spaces.get(name).and_then(|space| space.labels.as_deref());
        namespaces.hold(name, labels)
    }

    /// Makes room for a namespace; says whether there was none.
    pub(crate) fn open(&mut self, namespace: &Name) -> bool {
        let is_new = !self.spaces.contains_key(namespace);
        if is_new {
            self.spaces.insert(namespace.clone(), Space::default());
        }
        is_new
    }

    /// Drops a namespace of which nothing is left; says whether it did.
    pub(crate) fn close(&mut self, namespace: &str) -> bool {
        let is_empty = self.spaces.get(namespace).is_some_and(Space::is_empty);
        if is_empty {
            self.spaces.remove(namespace);
        }
        is_empty
    }

    /// Sets, changes or removes a pod; what it was, or `None` if it is as it was.
    pub(crate) fn set_pod(&mut self, key: &Key, pod: Option<Pod>) -> Option<Option<Arc<Pod>>> {
        if self.pod(key).map(|pod| &**pod) == pod.as_ref() {
            return None;
        }
        let pod = pod.map(|mut pod| {
            pod.labels = self.labels.share(pod.labels);
            Arc::new(pod)
        });
        let pods = &mut self.spaces.entry(key.namespace.clone()).or_default().pods;
        let old = match pod {
            Some(pod) => pods.insert(key.name.clone(), pod),
            None => pods.remove(&key.name),
        };
        if let Some(old) = &old {
            self.labels.forget(&old.labels);
        }
        Some(old)
    }

    /// Sets the labels of a namespace, or `None` where it is gone; says whether they differ.
    pub(crate) fn set_labels(&mut self, namespace: &Name, labels: Option<Labels>) -> bool {
        let space = self.spaces.entry(namespace.clone()).or_default();
        let differ = space.labels.as_deref() != labels.as_ref();
        if differ {
            space.labels = labels.map(Arc::new);
        }
        differ
    }

    /// Sets, changes or removes a policy; says whether it differs.
    pub(crate) fn set_policy(&mut self, key: &Key, policy: Option<Policy>) -> bool {
        if self.policy(key).map(|policy| &**policy) == policy.as_ref() {
            return false;
        }
        let policies = &mut self.spaces.entry(key.namespace.clone()).or_default().policies;
        self.policies -= policies.len();
        match policy {
            Some(policy) => policies.insert(key.name.clone(), Arc::new(policy)),
            None => policies.remove(&key.name),
        };
        self.policies += policies.len();
        true
    }
}
