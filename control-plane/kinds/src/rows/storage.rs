//! Volumes, claims, their classes and attachments.
use super::{BASE, BODY_VERBS, STATUS};
use crate::cells::{AGE, NAME, column, storage as cells};
use crate::kind::{Kind, Storage, Subresource};
use crate::strategies::storage;
use crate::table::Column;

const OWN_STATUS: &[Subresource] = &[Subresource {
    verbs: BODY_VERBS,
    ..STATUS
}];

pub(super) static PERSISTENT_VOLUME: Kind = Kind {
    kind: "PersistentVolume",
    list_kind: "PersistentVolumeList",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    subresources: OWN_STATUS,
    storage: Storage::Stored("persistentvolumes"),
    columns: &[
        NAME,
        column("Capacity", "string", 0, cells::volume_capacity),
        column("Access Modes", "string", 0, cells::volume_modes),
        column("Reclaim Policy", "string", 0, cells::reclaim),
        column("Status", "string", 0, cells::status),
        column("Claim", "string", 0, cells::claim),
        column("StorageClass", "string", 0, cells::class),
        column("VolumeAttributesClass", "string", 0, cells::attributes_class),
        column("Reason", "string", 0, cells::reason),
        AGE,
        column("VolumeMode", "string", 1, cells::mode),
    ],
    strategy: &storage::Volumes,
    ..BASE
};

pub(super) static PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    kind: "PersistentVolumeClaim",
    list_kind: "PersistentVolumeClaimList",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    subresources: OWN_STATUS,
    storage: Storage::Stored("persistentvolumeclaims"),
    columns: &[
        NAME,
        column("Status", "string", 0, cells::status),
        column("Volume", "string", 0, cells::volume),
        column("Capacity", "string", 0, cells::claim_capacity),
        column("Access Modes", "string", 0, cells::claim_modes),
        column("StorageClass", "string", 0, cells::class),
        column("VolumeAttributesClass", "string", 0, cells::attributes_class),
        AGE,
        column("VolumeMode", "string", 1, cells::mode),
    ],
    strategy: &storage::Claims,
    ..BASE
};

const CLASS_NAME: Column = Column {
    cell: cells::class_name,
    ..NAME
};

pub(super) static STORAGE_CLASS: Kind = Kind {
    group: "storage.k8s.io",
    kind: "StorageClass",
    list_kind: "StorageClassList",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    namespaced: false,
    storage: Storage::Stored("storageclasses"),
    columns: &[
        CLASS_NAME,
        column("Provisioner", "string", 0, cells::provisioner),
        column("ReclaimPolicy", "string", 0, cells::class_reclaim),
        column("VolumeBindingMode", "string", 0, cells::binding),
        column("AllowVolumeExpansion", "string", 0, cells::expansion),
        AGE,
    ],
    strategy: &storage::Classes,
    ..BASE
};

pub(super) static VOLUME_ATTACHMENT: Kind = Kind {
    group: "storage.k8s.io",
    kind: "VolumeAttachment",
    list_kind: "VolumeAttachmentList",
    plural: "volumeattachments",
    singular: "volumeattachment",
    namespaced: false,
    subresources: OWN_STATUS,
    storage: Storage::Stored("volumeattachments"),
    columns: &[
        NAME,
        column("Attacher", "string", 0, cells::attacher),
        column("PV", "string", 0, cells::attached_volume),
        column("Node", "string", 0, cells::attached_node),
        column("Attached", "boolean", 0, cells::attached),
        AGE,
    ],
    strategy: &storage::Attachments,
    ..BASE
};
