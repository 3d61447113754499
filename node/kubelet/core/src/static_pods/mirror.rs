//! Which mirror pods are made and which are taken away. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::MIRROR;
use crate::pod::PodExt;

/// Namespace and name.
pub(super) type Key = (String, String);

/// One thing to do at the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MirrorAction {
    /// Make the mirror of the static pod with that name.
    Create(Key),
    /// Delete a mirror pod at once.
    Delete {
        /// Its name.
        key: Key,
        /// Its own uid.
        uid: String,
    },
}

/// What there should be of a static pod in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// Its hash, which is its uid.
    pub hash: String,
    /// Whether its manifest is still there: one that only ends keeps its mirror and gets no new one.
    pub wanted: bool,
}

/// Compares the static pods with the mirror pods that the API has.
pub(super) fn plan(pods: &BTreeMap<Key, Shown>, mirrors: &BTreeMap<Key, Pod>) -> Vec<MirrorAction> {
    let mut out = Vec::new();
    for (key, mirror) in mirrors {
        let fits = pods
            .get(key)
            .is_some_and(|shown| hash(mirror) == Some(&shown.hash) && !mirror.is_deleted());
        if !fits {
            out.push(MirrorAction::Delete {
                key: key.clone(),
                uid: mirror.uid().to_owned(),
            });
        }
    }
    let missing = pods
        .iter()
        .filter(|(key, shown)| shown.wanted && !mirrors.contains_key(*key));
    out.extend(missing.map(|(key, _)| MirrorAction::Create(key.clone())));
    out
}

/// The hash of the static pod that this pod of the API mirrors; `None` if it is no mirror.
pub(super) fn hash(pod: &Pod) -> Option<&String> {
    pod.metadata.annotations.as_ref()?.get(MIRROR)
}

/// The mirror of a static pod, owned by the node.
pub(super) fn mirror_of(pod: &Pod, node_name: &str, node_uid: &str) -> Pod {
    let mut mirror = pod.clone();
    let metadata = &mut mirror.metadata;
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(MIRROR.to_owned(), pod.uid().to_owned());
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node_name.to_owned(),
        uid: node_uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    metadata.uid = None;
    metadata.resource_version = None;
    metadata.creation_timestamp = None;
    mirror.status = None;
    mirror
}

/// The static pod with what its mirror says: its status and version.
pub(super) fn reflected(pod: &Pod, mirror: &Pod) -> Pod {
    let mut shown = pod.clone();
    shown.metadata.resource_version = mirror.metadata.resource_version.clone();
    shown.metadata.creation_timestamp = mirror.metadata.creation_timestamp.clone();
    shown.status = mirror.status.clone();
    shown
}
