//! What a namespace that is being deleted says of itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ApiResource, PartialObjectMeta};

/// The finalizer in a namespace's spec that this controller removes.
pub(super) const FINALIZER: &str = "kubernetes";

/// Objects of one kind that are still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remaining {
    /// `pods.`, `daemonsets.apps`: plural and group, as upstream writes it.
    resource: String,
    count: usize,
    /// How often each finalizer occurs.
    finalizers: BTreeMap<String, usize>,
}

impl Remaining {
    /// What is left of a kind, or nothing.
    pub(super) fn of<K>(resource: &ApiResource, items: &[PartialObjectMeta<K>]) -> Option<Self> {
        let mut finalizers = BTreeMap::new();
        for f in items.iter().flat_map(|i| i.metadata.finalizers.iter().flatten()) {
            *finalizers.entry(f.clone()).or_insert(0) += 1;
        }
        let resource = format!("{}.{}", resource.plural, resource.group);
        (!items.is_empty()).then_some(Self {
            resource,
            count: items.len(),
            finalizers,
        })
    }
}

/// Whether this controller has still to let the namespace go.
pub(super) fn has_finalizer(namespace: &Namespace) -> bool {
    namespace
        .spec
        .iter()
        .flat_map(|s| s.finalizers.iter().flatten())
        .any(|f| f == FINALIZER)
}

/// The namespace with the conditions that tell of `left`; nothing if it says so already.
pub(super) fn with_conditions(
    namespace: &Namespace,
    left: &[Remaining],
    now: Timestamp,
) -> Option<Namespace> {
    let mut wanted = namespace.clone();
    let status = wanted.status.get_or_insert_default();
    status.phase = Some("Terminating".into());
    let before = status.conditions.take().unwrap_or_default();
    let conditions = told(left).map(|(type_, holds, reason, message)| {
        let status = if holds { "True" } else { "False" };
        let old = before.iter().find(|c| c.type_ == type_ && c.status == status);
        let since = old.and_then(|c| c.last_transition_time.clone());
        NamespaceCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: since.or(Some(Time(now))),
        }
    });
    status.conditions = Some(conditions.into());
    (wanted.status != namespace.status).then_some(wanted)
}

type Told = (&'static str, bool, &'static str, String);

fn told(left: &[Remaining]) -> [Told; 5] {
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".into(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".into(),
        ),
        (
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".into(),
        ),
        content_remaining(left),
        finalizers_remaining(left),
    ]
}

fn content_remaining(left: &[Remaining]) -> Told {
    let kind = "NamespaceContentRemaining";
    if left.is_empty() {
        return (
            kind,
            false,
            "ContentRemoved",
            "All content successfully removed".into(),
        );
    }
    let each: Vec<_> = left
        .iter()
        .map(|r| format!("{} has {} resource instances", r.resource, r.count))
        .collect();
    (
        kind,
        true,
        "SomeResourcesRemain",
        format!("Some resources are remaining: {}", each.join(", ")),
    )
}

fn finalizers_remaining(left: &[Remaining]) -> Told {
    let kind = "NamespaceFinalizersRemaining";
    let mut all = BTreeMap::new();
    for (finalizer, count) in left.iter().flat_map(|r| &r.finalizers) {
        *all.entry(finalizer).or_insert(0) += count;
    }
    if all.is_empty() {
        return (
            kind,
            false,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished".into(),
        );
    }
    let each: Vec<_> = all
        .iter()
        .map(|(f, n)| format!("{f} in {n} resource instances"))
        .collect();
    let message = format!(
        "Some content in the namespace has finalizers remaining: {}",
        each.join(", ")
    );
    (kind, true, "SomeFinalizersRemain", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tells_what_is_left_once() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let namespace: Namespace = serde_json::from_value(
            json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}}),
        )
        .unwrap();
        assert!(has_finalizer(&namespace));
        let left = Remaining {
            resource: "pods.".into(),
            count: 2,
            finalizers: BTreeMap::from([("a/b".into(), 1)]),
        };
        let told = with_conditions(&namespace, &[left], now).unwrap();
        let conditions = told.status.clone().unwrap().conditions.unwrap();
        assert_eq!(
            conditions[3].message.as_deref(),
            Some("Some resources are remaining: pods. has 2 resource instances")
        );
        assert_eq!(conditions[4].status, "True");
        let done = with_conditions(&told, &[], "2026-01-01T00:00:09Z".parse().unwrap()).unwrap();
        assert_eq!(
            with_conditions(&done, &[], "2026-01-01T00:00:10Z".parse().unwrap()),
            None
        );
        let conditions = done.status.unwrap().conditions.unwrap();
        assert_eq!(conditions[0].last_transition_time, Some(Time(now)));
        assert_eq!(conditions[3].reason.as_deref(), Some("ContentRemoved"));
    }

    #[test]
    fn an_empty_namespaces_last_status_is_upstreams() {
        let now: Timestamp = "2026-11-22T14:53:17Z".parse().unwrap();
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": "gone"}, "status": {"phase": "Terminating"}}))
                .unwrap();
        let told = with_conditions(&namespace, &[], now).unwrap();
        assert_eq!(
            serde_json::to_value(told.status).unwrap(),
            crate::recorded::part("/namespaceStatus")
        );
    }
}
