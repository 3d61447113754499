//! Pods as they come over the wire, reduced to what is read of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knode_client::lean_resource;
use serde::Deserialize;

/// A pod.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct PodObject {
    #[serde(deserialize_with = "knode_client::short_meta")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: Spec,
    #[serde(default)]
    pub(super) status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub node_name: Option<String>,
    pub host_network: Option<bool>,
    pub containers: Option<Vec<Container>>,
    pub init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container {
    pub restart_policy: Option<String>,
    pub ports: Option<Vec<Port>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Port {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub container_port: i32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    pub phase: Option<String>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<Ip>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ip {
    pub ip: String,
}

lean_resource!(PodObject, k8s_openapi::api::core::v1::Pod);
