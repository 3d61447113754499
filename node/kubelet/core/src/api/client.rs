//! The API over a client.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod, Secret, Service, ServiceAccount};
use knode_client::{Api, ApiError, Cache, Change, Client, EventRecorder, WatchConfig, watch};
use knode_volumes::{ObjectError, Objects, Token, TokenQuery};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::Value;

use super::objects::Watched;
use super::{PodApi, PodApiError, PodChange, services};
use crate::env::ServiceLink;
use crate::plan::PodEvent;
use crate::pod::PodExt;

/// [`PodApi`] over a client with the node's identity.
pub struct ClientApi {
    client: Client,
    node_name: String,
    recorder: EventRecorder,
    services: Cache<Service>,
    objects: Watched,
}

impl ClientApi {
    /// Starts to follow services. Events go to `recorder`.
    pub fn start(client: Client, node_name: &str, recorder: EventRecorder) -> Self {
        Self {
            recorder,
            services: Cache::start(
                Api::all(client.clone()),
                WatchConfig::fields("spec.clusterIP!=None"),
            ),
            objects: Watched::new(client.clone()),
            node_name: node_name.to_owned(),
            client,
        }
    }

    fn pod_api(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// The server's message where it gave one.
pub(super) fn text(error: &ApiError) -> String {
    match error {
        ApiError::Api(status) => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            text
        }
    }
}

fn pod_error(error: &ApiError) -> PodApiError {
    // A conflict is one of uids: status patches and deletions here carry no resourceVersion.
    match knode_client::is_not_found(error) || knode_client::is_conflict(error) {
        true => PodApiError::Gone,
        false => PodApiError::Failed(text(error)),
    }
}

#[async_trait]
impl Objects for ClientApi {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, ObjectError> {
        self.objects.config_map(namespace, name).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, ObjectError> {
        self.objects.secret(namespace, name).await
    }

    async fn token(&self, query: &TokenQuery) -> Result<Token, ObjectError> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &query.namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!query.audiences.is_empty()).then(|| query.audiences.clone()),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(query.pod_name.clone()),
                    uid: Some(query.pod_uid.clone()),
                }),
                expiration_seconds: Some(query.expiration_seconds),
            }),
            ..TokenRequest::default()
        };
        let answer = api
            .create_token_request(&query.service_account, &PostParams::default(), &request)
            .await;
        let status = answer.map_err(|error| ObjectError(text(&error)))?.status;
        let pair = status.and_then(|status| Some((status.token?, status.expiration_timestamp?)));
        let (token, expires) = pair.ok_or_else(|| ObjectError("the answer holds no token".to_owned()))?;
        Ok(Token {
            token,
            expires: expires.0,
        })
    }
}

#[async_trait]
impl PodApi for ClientApi {
    async fn patch_status(&self, namespace: &str, name: &str, patch: Value) -> Result<Pod, PodApiError> {
        let api = self.pod_api(namespace);
        let answer = api
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        answer.map_err(|error| pod_error(&error))
    }

    async fn delete(&self, namespace: &str, name: &str, uid: &str) -> Result<(), PodApiError> {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        self.pod_api(namespace)
            .delete(name, &params)
            .await
            .map(drop)
            .map_err(|error| pod_error(&error))
    }

    async fn create(&self, pod: &Pod) -> Result<Pod, PodApiError> {
        self.pod_api(pod.ns())
            .create(&PostParams::default(), pod)
            .await
            .map_err(|error| pod_error(&error))
    }

    fn event(&self, pod: &Pod, event: &PodEvent) {
        let object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: event.field_path(),
        };
        self.recorder
            .record(object, event.kind, &event.reason, event.message.clone());
    }

    async fn services(&self, namespace: &str, links: bool) -> Vec<ServiceLink> {
        self.services.wait_synced().await;
        let own = if links {
            self.services.list_namespace(namespace)
        } else {
            Vec::new()
        };
        services::links(&own, self.services.get("default", "kubernetes").as_deref())
    }

    fn register(&self, pod: &Pod) {
        self.objects.register(pod);
    }

    fn unregister(&self, pod: &Pod) {
        self.objects.unregister(pod.uid());
    }

    fn content_changes(&self) -> BoxStream<'static, String> {
        self.objects.changes()
    }

    fn pods(&self) -> BoxStream<'static, PodChange> {
        let config = WatchConfig::fields(format!("spec.nodeName={}", self.node_name));
        let changes = watch(Api::<Pod>::all(self.client.clone()), config);
        changes
            .filter_map(|change| async {
                match change {
                    Ok(Change::Restarted(all)) => Some(PodChange::All(all.into_iter().map(slim).collect())),
                    Ok(Change::Applied(pod)) => Some(PodChange::Applied(slim(pod))),
                    Ok(Change::Deleted(pod)) => Some(PodChange::Deleted(slim(pod))),
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "watch of pods interrupted"
                        );
                        None
                    }
                }
            })
            .boxed()
    }
}

/// The pod without what nobody here reads.
fn slim(mut pod: Pod) -> Arc<Pod> {
    pod.metadata.managed_fields = None;
    Arc::new(pod)
}
