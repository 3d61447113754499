//! Services, EndpointSlices and Namespaces as they come over the wire, reduced to what names are made of.

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knode_client::lean_resource;
use serde::Deserialize;

/// A Service.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ServiceObject {
    #[serde(deserialize_with = "knode_client::short_meta")]
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<String>>,
    pub external_name: Option<String>,
    pub ports: Option<Vec<PortObject>>,
}

/// A port of a Service or a slice.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct PortObject {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<i32>,
}

/// An EndpointSlice.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SliceObject {
    #[serde(deserialize_with = "knode_client::short_meta")]
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub address_type: String,
    #[serde(default)]
    pub endpoints: Option<Vec<EndpointObject>>,
    #[serde(default)]
    pub ports: Option<Vec<PortObject>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct EndpointObject {
    pub addresses: Vec<String>,
    pub conditions: Option<Conditions>,
    pub hostname: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Conditions {
    pub ready: Option<bool>,
}

/// A Namespace: its name is all that is asked about.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct NamespaceObject {
    #[serde(deserialize_with = "knode_client::short_meta")]
    pub metadata: ObjectMeta,
}

lean_resource!(ServiceObject, Service);
lean_resource!(SliceObject, EndpointSlice);
lean_resource!(NamespaceObject, Namespace);
