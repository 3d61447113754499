//! The rows of the kind table.
mod auth;
mod cluster;
mod core;
mod dynamic;
pub mod meta;
mod network;
mod storage;
mod workloads;

use crate::kind::{Kind, Storage, Subresource};
use crate::strategy::Plain;

/// Every kind, grouped as discovery lists them.
pub(crate) static ALL: &[&Kind] = &[
    &core::CONFIG_MAP,
    &network::ENDPOINTS,
    &core::EVENT,
    &core::NAMESPACE,
    &core::NODE,
    &storage::PERSISTENT_VOLUME_CLAIM,
    &storage::PERSISTENT_VOLUME,
    &workloads::POD,
    &core::SECRET,
    &core::SERVICE_ACCOUNT,
    &network::SERVICE,
    &workloads::CONTROLLER_REVISION,
    &workloads::DAEMON_SET,
    &core::EVENTS_EVENT,
    &auth::SELF_SUBJECT_REVIEW,
    &auth::TOKEN_REVIEW,
    &auth::LOCAL_SUBJECT_ACCESS_REVIEW,
    &auth::SELF_SUBJECT_ACCESS_REVIEW,
    &auth::SELF_SUBJECT_RULES_REVIEW,
    &auth::SUBJECT_ACCESS_REVIEW,
    &auth::CERTIFICATE_SIGNING_REQUEST,
    &auth::CLUSTER_TRUST_BUNDLE,
    &auth::CLUSTER_ROLE_BINDING,
    &auth::CLUSTER_ROLE,
    &auth::ROLE_BINDING,
    &auth::ROLE,
    &cluster::CSI_DRIVER,
    &cluster::CSI_NODE,
    &storage::STORAGE_CLASS,
    &storage::VOLUME_ATTACHMENT,
    &cluster::PRIORITY_CLASS,
    &cluster::LEASE,
    &cluster::RUNTIME_CLASS,
    &network::ENDPOINT_SLICE,
    &network::NETWORK_POLICY,
    &dynamic::DEVICE_CLASS,
    &dynamic::RESOURCE_CLAIM,
    &dynamic::RESOURCE_CLAIM_TEMPLATE,
    &cluster::RESOURCE_SLICE,
];

/// The verbs of most kinds.
const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// The verbs of `status` and its like.
const BODY_VERBS: &[&str] = &["get", "patch", "update"];

/// What a row holds unless it says otherwise.
const BASE: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    list_kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: VERBS,
    subresources: &[],
    storage: Storage::Virtual,
    selectable: &[],
    columns: &[],
    strategy: &Plain,
};

/// `status` of the kind itself.
const STATUS: Subresource = body("status", "");

/// A subresource with the kind's own body (an empty kind stands for it).
const fn body(name: &'static str, kind: &'static str) -> Subresource {
    Subresource {
        name,
        group: "",
        version: "",
        kind,
        verbs: BODY_VERBS,
    }
}

#[cfg(test)]
mod tests;
