//! Services, EndpointSlices and Namespaces as they come over the wire, reduced to what names are made of.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::Resource;
use serde::{Deserialize, Deserializer};

/// A Service.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ServiceObject {
    #[serde(deserialize_with = "short_meta")]
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
    #[serde(deserialize_with = "short_meta")]
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
    #[serde(deserialize_with = "short_meta")]
    pub metadata: ObjectMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShortMeta {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

/// Leaves out what may be large and is not read, managed fields above all.
fn short_meta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let ShortMeta {
        name,
        namespace,
        resource_version,
        labels,
    } = ShortMeta::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name,
        namespace,
        resource_version,
        labels,
        ..ObjectMeta::default()
    })
}

/// Makes a reduced type stand for its resource.
macro_rules! resource {
    ($object:ty, $full:ty, $scope:ty) => {
        impl Resource for $object {
            type DynamicType = ();
            type Scope = $scope;

            fn kind(_: &()) -> Cow<'_, str> {
                <$full as k8s_openapi::Resource>::KIND.into()
            }

            fn group(_: &()) -> Cow<'_, str> {
                <$full as k8s_openapi::Resource>::GROUP.into()
            }

            fn version(_: &()) -> Cow<'_, str> {
                <$full as k8s_openapi::Resource>::VERSION.into()
            }

            fn plural(_: &()) -> Cow<'_, str> {
                <$full as k8s_openapi::Resource>::URL_PATH_SEGMENT.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(
    ServiceObject,
    k8s_openapi::api::core::v1::Service,
    NamespaceResourceScope
);
resource!(
    SliceObject,
    k8s_openapi::api::discovery::v1::EndpointSlice,
    NamespaceResourceScope
);
resource!(
    NamespaceObject,
    k8s_openapi::api::core::v1::Namespace,
    ClusterResourceScope
);
