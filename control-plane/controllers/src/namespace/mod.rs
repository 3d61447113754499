//! Namespace life cycle: what is in a namespace goes with it (upstream: pkg/controller/namespace).

mod plan;

use async_trait::async_trait;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use knode_client::{Api, Cache, Delta, ObjectKey};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams, PropagationPolicy};
use kube::core::Status;
use kube::discovery::{Discovery, Scope, verbs};

use self::plan::{FINALIZER, Remaining};
use crate::Result;
use crate::error::{api, stale};
use crate::runner::{Next, Reconcile, Shared, feed, work};

/// While content remains that no informer here follows, it is looked at again this often.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

struct Controller(Shared);

/// Runs until its queue is closed.
pub(crate) async fn run(shared: Shared) {
    let queue = shared.queue();
    feed(&shared.namespaces, &queue, |d| vec![d.key()]);
    // Pods are what takes time to go.
    feed(&shared.pods, &queue, |d| match d {
        Delta::Deleted(pod) => pod
            .metadata
            .namespace
            .iter()
            .map(|n| ObjectKey::new("", n))
            .collect(),
        Delta::Applied { .. } => Vec::new(),
    });
    work(Controller(shared), queue).await;
}

/// Whether the namespace is there and not being deleted.
pub(crate) fn is_active(namespaces: &Cache<Namespace>, name: &str) -> bool {
    namespaces
        .get("", name)
        .is_some_and(|n| n.metadata.deletion_timestamp.is_none())
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "namespace";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(namespace) = self.0.namespaces.get_key(key) else {
            return Ok(Next::Done);
        };
        if namespace.metadata.deletion_timestamp.is_none() || !plan::has_finalizer(&namespace) {
            return Ok(Next::Done);
        }
        let left = self.delete_content(&key.name).await?;
        let namespace = self.write_status(&namespace, &left).await?;
        let Some(namespace) = namespace.filter(|_| left.is_empty()) else {
            return Ok(Next::After(AGAIN));
        };
        self.finalize(namespace).await
    }
}

impl Controller {
    /// One deletecollection for each kind; what is still there afterwards.
    async fn delete_content(&self, namespace: &str) -> Result<Vec<Remaining>> {
        let resources = self.resources().await?;
        let left = try_join_all(resources.iter().map(|r| self.delete_kind(namespace, r))).await?;
        Ok(left.into_iter().flatten().collect())
    }

    /// Every namespaced kind that can be listed and deleted by collection.
    async fn resources(&self) -> Result<Vec<ApiResource>> {
        let discovery = Discovery::new(self.0.client.clone())
            .run()
            .await
            .map_err(api("discover the API's kinds"))?;
        let groups = discovery.groups();
        let resources = groups
            .flat_map(|g| g.recommended_resources())
            .filter(|(_, capabilities)| {
                capabilities.scope == Scope::Namespaced
                    && capabilities.supports_operation(verbs::DELETE_COLLECTION)
                    && capabilities.supports_operation(verbs::LIST)
            });
        Ok(resources.map(|(resource, _)| resource).collect())
    }

    async fn delete_kind(&self, namespace: &str, resource: &ApiResource) -> Result<Option<Remaining>> {
        let objects: Api<DynamicObject> = Api::namespaced_with(self.0.client.clone(), namespace, resource);
        let operation = || format!("delete the {} of namespace {namespace}", resource.plural);
        let background = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        objects
            .delete_collection(&background, &ListParams::default())
            .await
            .map_err(api(operation()))?;
        let listed = objects
            .list_metadata(&ListParams::default())
            .await
            .map_err(api(operation()))?;
        Ok(Remaining::of(resource, &listed.items))
    }

    /// Says in the status what has been done; the new object, or nothing if somebody was quicker.
    async fn write_status(&self, namespace: &Namespace, left: &[Remaining]) -> Result<Option<Namespace>> {
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let Some(wanted) = plan::with_conditions(namespace, left, self.0.config.clock.now()) else {
            return Ok(Some(namespace.clone()));
        };
        let namespaces = Api::<Namespace>::all(self.0.client.clone());
        match namespaces
            .replace_status(name, &PostParams::default(), &wanted)
            .await
        {
            Ok(written) => Ok(Some(written)),
            Err(e) if stale(&e) => Ok(None),
            Err(e) => Err(api(format!("write the status of namespace {name}"))(e)),
        }
    }

    async fn finalize(&self, mut namespace: Namespace) -> Result<Next> {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
            finalizers.retain(|f| f != FINALIZER);
        }
        let body = serde_json::to_vec(&namespace).map_err(|source| crate::Error::Encode {
            what: "a namespace to finalize",
            source,
        })?;
        let request = kube::core::Request::new("/api/v1/namespaces");
        let request = request.replace_subresource("finalize", &name, &PostParams::default(), body);
        let request = match request {
            Ok(request) => request,
            Err(source) => {
                return Err(api(format!("finalize namespace {name}"))(
                    kube::Error::BuildRequest(source),
                ));
            }
        };
        match self.0.client.request_text(request).await {
            Ok(_) => Ok(Next::Done),
            Err(kube::Error::Api(status)) if is_stale(&status) => Ok(Next::After(AGAIN)),
            Err(e) => Err(api(format!("finalize namespace {name}"))(e)),
        }
    }
}

fn is_stale(status: &Status) -> bool {
    status.code == 409 || status.code == 404
}
