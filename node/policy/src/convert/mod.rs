//! From API objects to the model; pure.

mod objects;
mod pod;
mod policy;

pub use objects::PodObject;
pub use pod::pod;
pub use policy::policy;

use std::collections::BTreeMap;

use kube::Resource;

use crate::model::{Key, Labels};

/// Namespace and name of an object.
pub fn key<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    Key::new(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

/// The labels of an object.
pub fn labels(labels: Option<&BTreeMap<String, String>>) -> Labels {
    let pairs = labels.into_iter().flatten();
    pairs.map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
