//! Leases, classes and what nodes have.
use super::BASE;
use crate::cells::{AGE, NAME, column, others};
use crate::kind::{Kind, SelectableField, Storage};
use crate::strategies::cluster;

pub(super) static LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    list_kind: "LeaseList",
    plural: "leases",
    singular: "lease",
    storage: Storage::Stored("leases"),
    columns: &[NAME, column("Holder", "string", 0, others::holder), AGE],
    strategy: &cluster::Leases,
    ..BASE
};

pub(super) static CSI_NODE: Kind = Kind {
    group: "storage.k8s.io",
    kind: "CSINode",
    list_kind: "CSINodeList",
    plural: "csinodes",
    singular: "csinode",
    namespaced: false,
    storage: Storage::Stored("csinodes"),
    columns: &[NAME, column("Drivers", "integer", 0, others::drivers), AGE],
    strategy: &cluster::CsiNodes,
    ..BASE
};

pub(super) static CSI_DRIVER: Kind = Kind {
    group: "storage.k8s.io",
    kind: "CSIDriver",
    list_kind: "CSIDriverList",
    plural: "csidrivers",
    singular: "csidriver",
    namespaced: false,
    storage: Storage::Stored("csidrivers"),
    columns: &[
        NAME,
        column("AttachRequired", "boolean", 0, others::attach),
        column("PodInfoOnMount", "boolean", 0, others::pod_info),
        column("StorageCapacity", "boolean", 0, others::capacity),
        column("TokenRequests", "string", 0, others::token_requests),
        column("RequiresRepublish", "boolean", 0, others::republish),
        column("Modes", "string", 0, others::modes),
        AGE,
    ],
    strategy: &cluster::CsiDrivers,
    ..BASE
};

pub(super) static RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    list_kind: "RuntimeClassList",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    namespaced: false,
    storage: Storage::Stored("runtimeclasses"),
    columns: &[NAME, column("Handler", "string", 0, others::handler), AGE],
    strategy: &cluster::RuntimeClasses,
    ..BASE
};

pub(super) static PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    list_kind: "PriorityClassList",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    storage: Storage::Stored("priorityclasses"),
    columns: &[
        NAME,
        column("Value", "integer", 0, others::priority),
        column("Global-Default", "boolean", 0, others::global_default),
        AGE,
    ],
    strategy: &cluster::PriorityClasses,
    ..BASE
};

pub(super) static RESOURCE_SLICE: Kind = Kind {
    group: "resource.k8s.io",
    kind: "ResourceSlice",
    list_kind: "ResourceSliceList",
    plural: "resourceslices",
    singular: "resourceslice",
    namespaced: false,
    storage: Storage::Stored("resourceslices"),
    selectable: &[
        SelectableField::text("spec.nodeName", "/spec/nodeName"),
        SelectableField::text("spec.driver", "/spec/driver"),
    ],
    columns: &[
        NAME,
        column("Node", "string", 0, others::slice_node),
        column("Driver", "string", 0, others::slice_driver),
        column("Pool", "string", 0, others::slice_pool),
        AGE,
    ],
    strategy: &cluster::ResourceSlices,
    ..BASE
};
