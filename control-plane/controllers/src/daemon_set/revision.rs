//! Revisions of a template: its hash, the object that keeps it, and which are no longer needed; pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use knode_api::hash::fnv1a_32;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::pod::HASH_LABEL;
use crate::owner::controller_of;

const GENERATION: &str = "deprecated.daemonset.template.generation";
/// Revisions kept beside the current one when the set does not say.
const HISTORY: i32 = 10;
/// Letters and digits that make no words (apimachinery's safe encoding).
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The revision of the set's template, its number not yet chosen.
pub(super) fn of(set: &DaemonSet) -> Result<ControllerRevision, serde_json::Error> {
    let template = set.spec.as_ref().map(|s| &s.template);
    let mut data = json!({"spec": {"template": serde_json::to_value(template)?}});
    if let Some(template) = data.pointer_mut("/spec/template").and_then(Value::as_object_mut) {
        template.insert("$patch".into(), "replace".into());
    }
    let hash = hash(&serde_json::to_vec(&data)?);
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let mut labels = template
        .and_then(|t| t.metadata.as_ref()?.labels.clone())
        .unwrap_or_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let generation = set
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(GENERATION).cloned());
    Ok(ControllerRevision {
        data: Some(RawExtension(data)),
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: generation.map(|g| [(GENERATION.to_owned(), g)].into()),
            owner_references: Some(vec![controller_of(set)]),
            ..ObjectMeta::default()
        },
        revision: 0,
    })
}

/// FNV-1a of the template's JSON in safe letters. Upstream hashes a Go-specific dump instead: the names differ,
/// their form is the same.
fn hash(bytes: &[u8]) -> String {
    let letter = |c: u8| char::from(SAFE[usize::from(c) % SAFE.len()]);
    fnv1a_32(bytes).to_string().bytes().map(letter).collect()
}

/// The hash in a revision's name.
pub(super) fn hash_of_name(set: &DaemonSet, name: &str) -> String {
    let prefix = format!("{}-", set.metadata.name.as_deref().unwrap_or_default());
    name.strip_prefix(&prefix).unwrap_or(name).to_owned()
}

/// Names of the oldest revisions that neither a pod nor the set uses, beyond the history limit.
pub(super) fn superfluous(
    set: &DaemonSet,
    all: &[Arc<ControllerRevision>],
    current: &str,
    pods: &[Arc<Pod>],
) -> Vec<String> {
    let limit = set
        .spec
        .as_ref()
        .and_then(|s| s.revision_history_limit)
        .unwrap_or(HISTORY);
    let label = |meta: &ObjectMeta| meta.labels.as_ref().and_then(|l| l.get(HASH_LABEL).cloned());
    let used: Vec<_> = pods.iter().filter_map(|p| label(&p.metadata)).collect();
    let idle =
        |r: &&Arc<ControllerRevision>| label(&r.metadata).is_some_and(|h| h != current && !used.contains(&h));
    let mut idle: Vec<_> = all.iter().filter(idle).collect();
    idle.sort_by_key(|r| r.revision);
    let surplus = idle
        .len()
        .saturating_sub(usize::try_from(limit).unwrap_or_default());
    idle.iter()
        .take(surplus)
        .filter_map(|r| r.metadata.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(image: &str) -> DaemonSet {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "u"},
            "spec": {"selector": {}, "revisionHistoryLimit": 1,
                     "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}}))
        .unwrap()
    }

    #[test]
    fn a_template_has_one_name() {
        let (a, b, c) = (
            of(&set("x:1")).unwrap(),
            of(&set("x:2")).unwrap(),
            of(&set("x:1")).unwrap(),
        );
        assert_eq!(a.metadata.name, c.metadata.name);
        assert_ne!(a.metadata.name, b.metadata.name);
        let hash = hash_of_name(&set("x:1"), a.metadata.name.as_deref().unwrap());
        assert_eq!(a.metadata.labels.unwrap()[HASH_LABEL], hash);
        assert!(hash.bytes().all(|b| SAFE.contains(&b)));
    }

    #[test]
    fn only_the_oldest_unused_revisions_go() {
        let revision = |image: &str, n| {
            let mut r = of(&set(image)).unwrap();
            r.revision = n;
            Arc::new(r)
        };
        let all = [revision("x:1", 1), revision("x:2", 2), revision("x:3", 3)];
        let current = hash_of_name(&set(""), all[2].metadata.name.as_deref().unwrap());
        assert_eq!(
            superfluous(&set("x:3"), &all, &current, &[]),
            [all[0].metadata.name.clone().unwrap()]
        );
    }
}
