//! Volumes of claims: where bound ones can be had, and which the others get (upstream: the plugin `VolumeBinding`).

use k8s_openapi::api::core::v1::NodeSelectorTerm;
use knode_api::volume::{
    BOUND_BY_CONTROLLER, NO_PROVISIONER, SELECTED_NODE, annotation, best, bytes, class, waits_for_consumer,
};
use knode_client::{AnyKind, AnyObjects, ObjectKey};
use serde_json::{Value, json};

use super::{Refusal, matches_term};
use crate::model::{Node, Pod};

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

const fn kind(group: &'static str, kind: &'static str, plural: &'static str) -> AnyKind {
    AnyKind {
        group,
        version: "v1",
        kind,
        plural,
    }
}

pub(crate) const VOLUMES: AnyKind = kind("", "PersistentVolume", "persistentvolumes");
pub(crate) const CLAIMS: AnyKind = kind("", "PersistentVolumeClaim", "persistentvolumeclaims");
pub(crate) const CLASSES: AnyKind = kind("storage.k8s.io", "StorageClass", "storageclasses");

/// What is followed.
pub(crate) const KINDS: &[AnyKind] = &[VOLUMES, CLAIMS, CLASSES];

/// Claims, volumes and classes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Storage {
    pub(crate) claims: AnyObjects,
    pub(crate) volumes: AnyObjects,
    pub(crate) classes: AnyObjects,
}

/// A pod's claims.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    bound: Vec<&'a Value>,
    /// Those that wait for the pod, the smaller first.
    waiting: Vec<&'a Value>,
}

/// An object that is to be written so that a claim gets its volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its kind.
    pub kind: AnyKind,
    /// It, whole.
    pub object: Value,
}

/// How a pod's claims stand on a node that can fulfil them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Claims {
    /// All are bound.
    Bound,
    /// Some are to be bound, by these changes; with none of them it is under way.
    Open(Vec<Change>),
}

fn find<'a>(objects: &'a AnyObjects, namespace: &str, name: &str) -> Option<&'a Value> {
    objects.get(&ObjectKey::new(namespace, name)).map(AsRef::as_ref)
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

impl Storage {
    /// The pod's claims, or why no node can take it.
    pub(crate) fn wanted(&self, pod: &Pod) -> Result<Wanted<'_>, String> {
        let mut wanted = Wanted::default();
        for (claim_name, own) in &pod.claims {
            let Some(claim) = find(&self.claims, &pod.key.namespace, claim_name) else {
                return Err(match own {
                    true => format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim {claim_name:?}"
                    ),
                    false => format!("persistentvolumeclaim {claim_name:?} not found"),
                });
            };
            let volume = claim["spec"]["volumeName"].as_str().unwrap_or_default();
            if claim["status"]["phase"] == "Lost" {
                return Err(format!(
                    "persistentvolumeclaim {claim_name:?} bound to non-existent persistentvolume {volume:?}"
                ));
            }
            if claim["metadata"]["deletionTimestamp"].is_string() {
                return Err(format!("persistentvolumeclaim {claim_name:?} is being deleted"));
            }
            let class = find(&self.classes, "", class(claim).unwrap_or_default());
            if !volume.is_empty() && !annotation(claim, BIND_COMPLETED).is_empty() {
                wanted.bound.push(claim);
            } else if volume.is_empty() && class.is_some_and(waits_for_consumer) {
                wanted.waiting.push(claim);
            } else {
                return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
            }
        }
        wanted
            .waiting
            .sort_by_key(|claim| bytes(claim, "/spec/resources/requests/storage"));
        Ok(wanted)
    }

    /// Whether the node can have the volumes.
    pub(super) fn on_node(&self, wanted: &Wanted<'_>, node: &Node) -> Result<Claims, Refusal> {
        for claim in &wanted.bound {
            let volume = claim["spec"]["volumeName"].as_str().unwrap_or_default();
            let Some(volume) = find(&self.volumes, "", volume) else {
                let reason = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
                return Err(Refusal::fixed(reason));
            };
            if !reachable(volume, node) {
                return Err(Refusal::fixed(
                    "node(s) didn't match PersistentVolume's node affinity",
                ));
            }
        }
        if wanted.waiting.is_empty() {
            return Ok(Claims::Bound);
        }
        let mut changes = Vec::new();
        let mut taken: Vec<&str> = Vec::new();
        for claim in &wanted.waiting {
            match self.open(claim, node, &mut taken) {
                Some(change) => changes.extend(change),
                None => {
                    return Err(Refusal::fixed(
                        "node(s) didn't find available persistent volumes to bind",
                    ));
                }
            }
        }
        Ok(Claims::Open(changes))
    }

    /// What gives the claim a volume on the node: nothing more, if that is under way; none if nothing does.
    fn open<'a>(&'a self, claim: &Value, node: &Node, taken: &mut Vec<&'a str>) -> Option<Option<Change>> {
        let selected = annotation(claim, SELECTED_NODE);
        if !selected.is_empty() {
            return (selected == node.name).then_some(None);
        }
        let free = self.volumes.values().map(AsRef::as_ref);
        let free = free.filter(|volume| !taken.contains(&name(volume)));
        if let Some(volume) = best(claim, free, Some(&|volume| reachable(volume, node)), true) {
            taken.push(name(volume));
            let kept = volume["spec"]["claimRef"]["uid"].is_string();
            return Some((!kept).then(|| keep(volume, claim)));
        }
        let class = find(&self.classes, "", class(claim).unwrap_or_default())?;
        let provisioner = class["provisioner"].as_str().unwrap_or_default();
        if provisioner.is_empty() || provisioner == NO_PROVISIONER || !allowed(class, node) {
            return None;
        }
        let mut claim = claim.clone();
        claim["metadata"]["annotations"][SELECTED_NODE] = node.name.as_str().into();
        Some(Some(Change {
            kind: CLAIMS,
            object: claim,
        }))
    }
}

/// Keeps a volume for a claim; a controller binds them then.
fn keep(volume: &Value, claim: &Value) -> Change {
    let mut volume = volume.clone();
    if !volume["spec"]["claimRef"].is_object() {
        volume["metadata"]["annotations"][BOUND_BY_CONTROLLER] = "yes".into();
    }
    let metadata = &claim["metadata"];
    volume["spec"]["claimRef"] = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"]});
    Change {
        kind: VOLUMES,
        object: volume,
    }
}

/// Whether the volume's node affinity allows the node.
fn reachable(volume: &Value, node: &Node) -> bool {
    let required = &volume["spec"]["nodeAffinity"]["required"];
    let Some(terms) = required["nodeSelectorTerms"].as_array() else {
        return true;
    };
    terms.iter().any(|term| {
        let term = serde_json::from_value::<NodeSelectorTerm>(term.clone());
        term.is_ok_and(|term| matches_term(&term, node))
    })
}

/// Whether the class makes volumes for the node.
fn allowed(class: &Value, node: &Node) -> bool {
    let Some(terms) = class["allowedTopologies"]
        .as_array()
        .filter(|terms| !terms.is_empty())
    else {
        return true;
    };
    terms.iter().any(|term| {
        let labels = term["matchLabelExpressions"].as_array();
        labels.into_iter().flatten().all(|label| {
            let own = node.labels.get(label["key"].as_str().unwrap_or_default());
            let values = label["values"].as_array();
            own.is_some_and(|own| values.is_some_and(|values| values.iter().any(|value| value == own)))
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn objects(all: impl IntoIterator<Item = Value>) -> AnyObjects {
        let key = |object: &Value| {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            ObjectKey::new(namespace, name(object))
        };
        all.into_iter()
            .map(|object| (key(&object), Arc::new(object)))
            .collect()
    }

    fn volume(name: &str, host: &str) -> Value {
        json!({"metadata": {"name": name}, "status": {"phase": "Available"},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                "nodeAffinity": {"required": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "host", "operator": "In", "values": [host]}]}]}}}})
    }

    fn claim(name: &str, class: &str, volume: &str) -> Value {
        let done = if volume.is_empty() {
            json!({})
        } else {
            json!({BIND_COMPLETED: "yes"})
        };
        json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "annotations": done},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class, "volumeName": volume,
                "resources": {"requests": {"storage": "1Gi"}}}})
    }

    fn storage() -> Storage {
        Storage {
            claims: objects([
                claim("bound", "local", "a"),
                claim("lost", "local", "nowhere"),
                claim("open", "local", ""),
                claim("made", "driver", ""),
                claim("now", "", ""),
            ]),
            volumes: objects([volume("a", "n1"), volume("b", "n2")]),
            classes: objects([
                json!({"metadata": {"name": "local"}, "provisioner": NO_PROVISIONER,
                    "volumeBindingMode": "WaitForFirstConsumer"}),
                json!({"metadata": {"name": "driver"}, "provisioner": "d",
                    "volumeBindingMode": "WaitForFirstConsumer"}),
            ]),
        }
    }

    fn node(name: &str) -> Node {
        Node {
            name: name.into(),
            labels: [("host".to_owned(), name.to_owned())].into(),
            ..Node::default()
        }
    }

    fn pod(claims: &[&str]) -> Pod {
        let volumes: Vec<Value> = claims
            .iter()
            .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
            .collect();
        let pod = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [], "volumes": volumes}});
        Pod::of(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn bound_volumes_decide_where() {
        let storage = storage();
        let on = |claim: &str, at: &str| {
            let pod = pod(&[claim]);
            let wanted = storage.wanted(&pod).unwrap();
            storage
                .on_node(&wanted, &node(at))
                .map_err(|why| why.reasons.concat())
        };
        assert_eq!(on("bound", "n1"), Ok(Claims::Bound));
        let words = "node(s) didn't match PersistentVolume's node affinity";
        assert_eq!(on("bound", "n2"), Err(words.to_owned()));
        assert!(on("lost", "n1").unwrap_err().contains("non-existent"));
        for (at, expected) in [("n1", "a"), ("n2", "b")] {
            let Ok(Claims::Open(changes)) = on("open", at) else {
                panic!("{at}")
            };
            assert_eq!(name(&changes[0].object), expected);
            assert_eq!(changes[0].object["spec"]["claimRef"]["uid"], "open");
        }
        assert!(on("open", "n3").unwrap_err().contains("didn't find available"));
        let Ok(Claims::Open(changes)) = on("made", "n3") else {
            panic!()
        };
        assert_eq!(changes[0].object["metadata"]["annotations"][SELECTED_NODE], "n3");
    }

    #[test]
    fn claims_that_nothing_can_help_are_named() {
        let storage = storage();
        let why = |claim: &str| storage.wanted(&pod(&[claim])).map(drop).unwrap_err();
        assert_eq!(why("none"), "persistentvolumeclaim \"none\" not found");
        assert_eq!(why("now"), "pod has unbound immediate PersistentVolumeClaims");
    }
}
