//! The API over a client.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod, Secret, Service, ServiceAccount};
use knode_client::{Api, ApiError, Cache, Change, Client, EventRecorder, Verb, WatchConfig, watch};
use knode_volumes::{ObjectError, Objects, Token, TokenQuery, TrustQuery};
use kube::api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
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
    /// Handlers of runtime classes as they were last seen, for when the API does not answer.
    handlers: Mutex<BTreeMap<String, String>>,
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
            handlers: Mutex::default(),
            node_name: node_name.to_owned(),
            client,
        }
    }

    /// Reads what no type is kept for; `None` if it does not exist.
    async fn read(&self, request: http::Request<Vec<u8>>) -> Result<Option<Value>, ApiError> {
        match self.client.request::<Value>(request).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if knode_client::is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn handlers(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
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

    async fn trust_bundles(&self, query: &TrustQuery) -> Result<Vec<String>, ObjectError> {
        const PATH: &str = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles";
        let all = Request::new(PATH);
        let request = match query {
            TrustQuery::Name(name) => all.get(name, &GetParams::default()),
            TrustQuery::Signer { signer, selector } => {
                let query = ListParams::default().fields(&format!("spec.signerName={signer}"));
                all.list(&query.labels(selector))
            }
        };
        let request = request.map_err(|error| ObjectError(error.to_string()))?;
        let answer = self.read(request).await;
        let found = answer
            .map_err(|error| ObjectError(text(&error)))?
            .unwrap_or_default();
        let one = std::slice::from_ref(&found);
        let all = found["items"].as_array().map_or(one, Vec::as_slice);
        let texts = all
            .iter()
            .filter_map(|bundle| bundle["spec"]["trustBundle"].as_str());
        Ok(texts.map(ToOwned::to_owned).collect())
    }

    async fn object(&self, path: &str) -> Result<Option<Value>, ObjectError> {
        match knode_client::send(&self.client, Verb::Get, path, None).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if knode_client::is_not_found(&error) => Ok(None),
            Err(error) => Err(ObjectError(text(&error))),
        }
    }

    async fn merge(&self, path: &str, patch: &Value) -> Result<(), ObjectError> {
        let answer = knode_client::send(&self.client, Verb::Merge, path, Some(patch)).await;
        answer.map(drop).map_err(|error| ObjectError(text(&error)))
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
        let (reason, message) = (event.reason.as_str(), event.message.clone());
        self.recorder
            .annotated(object, event.kind, reason, message, event.marks.clone());
    }

    async fn runtime_handler(&self, class: &str) -> Result<Option<String>, ObjectError> {
        let classes = Request::new("/apis/node.k8s.io/v1/runtimeclasses");
        let request = classes.get(class, &GetParams::default());
        match self
            .read(request.map_err(|error| ObjectError(error.to_string()))?)
            .await
        {
            Ok(Some(found)) => {
                let handler = found["handler"].as_str().unwrap_or_default().to_owned();
                self.handlers().insert(class.to_owned(), handler.clone());
                Ok(Some(handler))
            }
            Ok(None) => Ok(None),
            Err(error) => match self.handlers().get(class) {
                Some(known) => Ok(Some(known.clone())),
                None => Err(ObjectError(text(&error))),
            },
        }
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
