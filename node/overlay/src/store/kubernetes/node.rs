use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knode_client::lean_resource;
use serde::{Deserialize, Serialize};

/// What leases need of a Node; images, conditions and the rest are not kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct NodeView {
    #[serde(default)]
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: NodeSpecView,
}

/// The addresses of a node's pods.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeSpecView {
    #[serde(rename = "podCIDR", default, skip_serializing_if = "Option::is_none")]
    pub pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
}

lean_resource!(NodeView, Node);
