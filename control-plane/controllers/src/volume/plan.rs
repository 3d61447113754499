//! What there is, and what is to be written.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use knode_client::{AnyCache, AnyKind, AnyObjects, EventKind};
use serde_json::Value;

use crate::runner::Shared;

const fn kind(group: &'static str, kind: &'static str, plural: &'static str) -> AnyKind {
    AnyKind {
        group,
        version: "v1",
        kind,
        plural,
    }
}

const STORAGE: &str = "storage.k8s.io";
pub(super) const VOLUMES: AnyKind = kind("", "PersistentVolume", "persistentvolumes");
pub(super) const CLAIMS: AnyKind = kind("", "PersistentVolumeClaim", "persistentvolumeclaims");
pub(super) const CLASSES: AnyKind = kind(STORAGE, "StorageClass", "storageclasses");
pub(super) const DRIVERS: AnyKind = kind(STORAGE, "CSIDriver", "csidrivers");
pub(super) const ATTACHMENTS: AnyKind = kind(STORAGE, "VolumeAttachment", "volumeattachments");
pub(super) const NODES: AnyKind = kind("", "Node", "nodes");

/// What is followed; pods and nodes are followed for every controller.
pub(super) const KINDS: &[AnyKind] = &[VOLUMES, CLAIMS, CLASSES, DRIVERS, ATTACHMENTS];

/// Everything that decisions look at.
#[derive(Clone, Default)]
pub(super) struct World {
    pub volumes: AnyObjects,
    pub claims: AnyObjects,
    pub classes: AnyObjects,
    pub drivers: AnyObjects,
    pub attachments: AnyObjects,
    /// Those with volumes from claims.
    pub pods: Vec<Arc<Pod>>,
    pub nodes: Vec<Arc<Node>>,
}

impl World {
    pub(super) fn of(cache: &AnyCache, shared: &Shared) -> Self {
        let mut pods = shared.pods.list();
        pods.retain(|pod| has_volumes(pod));
        Self {
            volumes: cache.of(&VOLUMES),
            claims: cache.of(&CLAIMS),
            classes: cache.of(&CLASSES),
            drivers: cache.of(&DRIVERS),
            attachments: cache.of(&ATTACHMENTS),
            pods,
            nodes: shared.nodes.list(),
        }
    }

    /// The volume, claim, … of this name.
    pub(super) fn find<'a>(objects: &'a AnyObjects, namespace: &str, name: &str) -> Option<&'a Value> {
        let key = knode_client::ObjectKey::new(namespace, name);
        objects.get(&key).map(Arc::as_ref)
    }
}

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    Update,
    Status,
    MergeStatus,
    Delete,
}

/// One object to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    pub step: Step,
    pub kind: AnyKind,
    pub object: Value,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Note {
    pub regarding: ObjectReference,
    pub kind: EventKind,
    pub reason: &'static str,
    pub message: String,
}

/// All that is to be done now. What follows from it is asked for when it has been done.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub writes: Vec<Write>,
    pub notes: Vec<Note>,
}

impl Plan {
    pub(super) fn write(&mut self, step: Step, kind: AnyKind, object: Value) {
        self.writes.push(Write { step, kind, object });
    }

    pub(super) fn note(
        &mut self,
        kind: EventKind,
        object: &Value,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let field = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(ToOwned::to_owned)
        };
        let regarding = ObjectReference {
            api_version: field("/apiVersion"),
            kind: field("/kind"),
            namespace: field("/metadata/namespace"),
            name: field("/metadata/name"),
            uid: field("/metadata/uid"),
            resource_version: field("/metadata/resourceVersion"),
            field_path: None,
        };
        self.notes.push(Note {
            regarding,
            kind,
            reason,
            message: message.into(),
        });
    }
}

/// Whether the pod has volumes from claims.
pub(super) fn has_volumes(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .into_iter()
        .any(|one| one.persistent_volume_claim.is_some() || one.ephemeral.is_some())
}

/// The claims of a pod by name, with those that are made for it alone.
pub(super) fn claims_of(pod: &Pod) -> Vec<(String, bool)> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let claims = volumes.filter_map(|volume| match &volume.persistent_volume_claim {
        Some(claim) => Some((claim.claim_name.clone(), false)),
        None => volume
            .ephemeral
            .as_ref()
            .map(|_| (format!("{name}-{}", volume.name), true)),
    });
    claims.collect()
}

/// The volumes that a node says it uses.
pub(super) fn in_use(node: &Node) -> &[String] {
    let status = node.status.as_ref();
    status
        .and_then(|status| status.volumes_in_use.as_deref())
        .unwrap_or_default()
}

/// The text at a pointer, empty if there is none.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Sets an annotation.
pub(super) fn annotate(object: &mut Value, key: &str, value: &str) {
    object["metadata"]["annotations"][key] = value.into();
}

/// Whether the object is being deleted.
pub(super) fn is_going(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}
