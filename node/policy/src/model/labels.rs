use std::collections::HashSet;
use std::sync::Arc;

/// An object's labels, sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(own, _)| (**own).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let mut labels: Vec<(Box<str>, Box<str>)> = labels
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        labels.sort();
        Self(labels.into())
    }
}

/// Pods of one template have the same labels: they are kept once.
#[derive(Debug, Default)]
pub(super) struct LabelPool(HashSet<Arc<Labels>>);

impl LabelPool {
    pub fn share(&mut self, labels: Arc<Labels>) -> Arc<Labels> {
        if let Some(known) = self.0.get(&labels) {
            return known.clone();
        }
        self.0.insert(labels.clone());
        labels
    }

    /// Drops labels that only the pool and one object have, which is about to go.
    pub fn forget(&mut self, labels: &Arc<Labels>) {
        if Arc::strong_count(labels) <= 2 {
            self.0.remove(labels);
        }
    }
}
