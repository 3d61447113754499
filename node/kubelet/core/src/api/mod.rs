//! What the pod side of the kubelet needs of the API, as a trait, and its implementation over a client.

mod client;
mod objects;
mod services;

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use knode_volumes::{ObjectError, Objects};
use serde_json::Value;

use crate::env::ServiceLink;
use crate::plan::PodEvent;

pub use client::ClientApi;

/// A request about a pod failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PodApiError {
    /// The pod does not exist any more, or another one has its name.
    #[error("the pod is gone")]
    Gone,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// What happens to the pods of this node.
#[derive(Debug, Clone)]
pub enum PodChange {
    /// These are all; anything else is gone.
    All(Vec<Arc<Pod>>),
    /// A pod is new or has changed.
    Applied(Arc<Pod>),
    /// A pod is gone; its last state.
    Deleted(Arc<Pod>),
}

/// The API as pod workers use it.
#[async_trait]
pub trait PodApi: Objects {
    /// Patches the status (strategic merge); gives the pod as it is then.
    async fn patch_status(&self, namespace: &str, name: &str, patch: Value) -> Result<Pod, PodApiError>;
    /// Deletes the pod at once if it still has this uid.
    async fn delete(&self, namespace: &str, name: &str, uid: &str) -> Result<(), PodApiError>;
    /// Creates a pod (a mirror pod); gives it as the API has it. [`PodApiError::Gone`] if another has its name.
    async fn create(&self, pod: &Pod) -> Result<Pod, PodApiError>;
    /// Writes an event; never waits.
    fn event(&self, pod: &Pod, event: &PodEvent);
    /// The runtime handler that a runtime class names; `None` if there is no such class.
    async fn runtime_handler(&self, class: &str) -> Result<Option<String>, ObjectError>;
    /// Services with a cluster address: those of the namespace, and `default/kubernetes`, if its own
    /// namespace has none of that name. Waits until they are known.
    async fn services(&self, namespace: &str, links: bool) -> Vec<ServiceLink>;
    /// Says which objects the pod may be given, so that they are kept at hand and current.
    fn register(&self, pod: &Pod);
    /// Takes that back.
    fn unregister(&self, pod: &Pod);
    /// Uids of pods that refer to a config map or secret that has changed.
    fn content_changes(&self) -> BoxStream<'static, String>;
    /// The pods of this node.
    fn pods(&self) -> BoxStream<'static, PodChange>;
}

/// The part of a [`PodApi`] that volumes need, as an object of its own.
pub(crate) struct AsObjects(pub(crate) Arc<dyn PodApi>);

#[async_trait]
impl Objects for AsObjects {
    async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<k8s_openapi::api::core::v1::ConfigMap>>, knode_volumes::ObjectError> {
        self.0.config_map(namespace, name).await
    }

    async fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<k8s_openapi::api::core::v1::Secret>>, knode_volumes::ObjectError> {
        self.0.secret(namespace, name).await
    }

    async fn trust_bundles(
        &self,
        query: &knode_volumes::TrustQuery,
    ) -> Result<Vec<String>, knode_volumes::ObjectError> {
        self.0.trust_bundles(query).await
    }

    async fn object(&self, path: &str) -> Result<Option<Value>, ObjectError> {
        self.0.object(path).await
    }

    async fn merge(&self, path: &str, patch: &Value) -> Result<(), ObjectError> {
        self.0.merge(path, patch).await
    }

    async fn token(
        &self,
        query: &knode_volumes::TokenQuery,
    ) -> Result<knode_volumes::Token, knode_volumes::ObjectError> {
        self.0.token(query).await
    }
}
