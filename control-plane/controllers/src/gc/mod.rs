//! Objects go with their owners (upstream: pkg/controller/garbagecollector).

mod graph;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use knode_client::{Api, ObjectKey};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, PartialObjectMeta, Patch, PatchParams, Preconditions,
    PropagationPolicy,
};
use kube::discovery::{ApiCapabilities, Discovery, Scope, verbs};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde_json::json;

use self::graph::{Graph, Item, Todo};
use crate::Result;
use crate::error::{api, stale};
use crate::runner::{Next, Queue, Reconcile, Shared, work};

/// A dependent in deletion is looked at again after this long, should its last event have been missed.
const AGAIN: Duration = Duration::from_secs(5);

/// A kind and whether its objects live in namespaces.
#[derive(Clone)]
struct Kind {
    resource: ApiResource,
    namespaced: bool,
}

struct Controller {
    shared: Shared,
    kinds: Arc<HashMap<(String, String), Kind>>,
    graph: Arc<Mutex<Graph>>,
}

fn locked(graph: &Mutex<Graph>) -> MutexGuard<'_, Graph> {
    graph.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until its queue is closed.
pub(crate) async fn run(shared: Shared) {
    let queue = shared.queue();
    let kinds = loop {
        match kinds(&shared).await {
            Ok(kinds) => break Arc::new(kinds),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "garbage collector not started yet"
                );
                shared.config.clock.sleep(AGAIN).await;
            }
        }
    };
    let graph = Arc::new(Mutex::new(Graph::default()));
    let followers = join_all(
        kinds
            .values()
            .map(|k| follow(&shared, k.clone(), graph.clone(), queue.clone())),
    );
    let controller = Controller {
        shared: shared.clone(),
        kinds: kinds.clone(),
        graph,
    };
    tokio::join!(followers, work(controller, queue));
}

/// Every kind whose objects can be watched and deleted, by apiVersion and kind. Events own nothing and are owned by
/// nothing, and there are many.
async fn kinds(shared: &Shared) -> Result<HashMap<(String, String), Kind>> {
    let discovery = Discovery::new(shared.client.clone())
        .run()
        .await
        .map_err(api("discover the API's kinds"))?;
    let usable = |(r, c): &(ApiResource, ApiCapabilities)| {
        r.kind != "Event"
            && [verbs::WATCH, verbs::DELETE]
                .iter()
                .all(|v| c.supports_operation(v))
    };
    let all = discovery
        .groups()
        .flat_map(|g| g.recommended_resources())
        .filter(usable);
    Ok(all
        .map(|(resource, c)| {
            let kind = Kind {
                resource,
                namespaced: c.scope == Scope::Namespaced,
            };
            (
                (kind.resource.api_version.clone(), kind.resource.kind.clone()),
                kind,
            )
        })
        .collect())
}

/// Keeps the graph true for one kind, and queues what may have something to do.
async fn follow(shared: &Shared, kind: Kind, graph: Arc<Mutex<Graph>>, queue: Queue) {
    let objects: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(shared.client.clone(), &kind.resource);
    let mut events = watcher::watcher(objects, watcher::Config::default())
        .default_backoff()
        .boxed();
    let item = |object: PartialObjectMeta<DynamicObject>| Item::of(&kind.resource, object.metadata);
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        let affected = match event {
            Ok(Event::Apply(o)) => locked(&graph).insert(item(o)),
            Ok(Event::Delete(o)) => locked(&graph).remove(&item(o).uid),
            Ok(Event::Init) => {
                listed.clear();
                Vec::new()
            }
            Ok(Event::InitApply(o)) => {
                listed.push(item(o));
                Vec::new()
            }
            Ok(Event::InitDone) => locked(&graph).replace(&kind.resource.kind, std::mem::take(&mut listed)),
            Err(error) => {
                tracing::debug!(kind = kind.resource.kind, %error, "watch interrupted");
                Vec::new()
            }
        };
        affected
            .into_iter()
            .for_each(|uid| queue.add(ObjectKey::new("", uid)));
    }
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "garbage-collector";

    /// The key's name is a uid.
    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let todo = locked(&self.graph).todo(&key.name);
        match todo {
            None => Ok(Next::Done),
            Some((item, Todo::CheckOwners(owners))) => self.check_owners(&item, &owners).await,
            Some((_, Todo::DeleteDependents(dependents))) => {
                for d in &dependents {
                    self.delete(d, PropagationPolicy::Foreground).await?;
                }
                Ok(Next::After(AGAIN))
            }
            Some((item, Todo::Orphan(dependents))) => {
                for d in &dependents {
                    self.disown(d, &item.uid).await?;
                }
                self.drop_finalizer(&item, graph::ORPHAN).await
            }
            Some((item, Todo::LetGo)) => self.drop_finalizer(&item, graph::FOREGROUND).await,
        }
    }
}

impl Controller {
    fn api(&self, api_version: &str, kind: &str, namespace: &str) -> Option<Api<DynamicObject>> {
        let kind = self.kinds.get(&(api_version.to_owned(), kind.to_owned()))?;
        let client = self.shared.client.clone();
        Some(match kind.namespaced {
            true => Api::namespaced_with(client, namespace, &kind.resource),
            false => Api::all_with(client, &kind.resource),
        })
    }

    fn api_of(&self, item: &Item) -> Option<Api<DynamicObject>> {
        self.api(&item.api_version, &item.kind, &item.namespace)
    }

    /// Deletes an object none of whose owners exists; asks the server itself about each owner.
    async fn check_owners(&self, item: &Item, owners: &[OwnerReference]) -> Result<Next> {
        for owner in owners {
            let Some(objects) = self.api(&owner.api_version, &owner.kind, &item.namespace) else {
                // An owner of a kind that we don't know may exist.
                return Ok(Next::Done);
            };
            let there = objects.get_metadata_opt(&owner.name).await;
            let there = there.map_err(api(format!("get owner {} {}", owner.kind, owner.name)))?;
            if there.is_some_and(|o| o.metadata.uid.as_ref() == Some(&owner.uid)) {
                return Ok(Next::Done);
            }
        }
        self.delete(item, PropagationPolicy::Background).await?;
        Ok(Next::Done)
    }

    async fn delete(&self, item: &Item, policy: PropagationPolicy) -> Result<()> {
        let Some(objects) = self.api_of(item) else {
            return Ok(());
        };
        let preconditions = Preconditions {
            uid: Some(item.uid.clone()),
            resource_version: None,
        };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match objects.delete(&item.name, &params).await {
            Err(e) if !stale(&e) => Err(api(format!("delete {item}, whose owner is gone"))(e)),
            _ => Ok(()),
        }
    }

    /// Takes an owner's reference from a dependent.
    async fn disown(&self, item: &Item, owner: &str) -> Result<()> {
        let Some(objects) = self.api_of(item) else {
            return Ok(());
        };
        let left: Vec<_> = item.owners.iter().filter(|o| o.uid != owner).collect();
        let patch = json!({"metadata": {"uid": item.uid, "ownerReferences": left}});
        match objects
            .patch(&item.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Err(e) if !stale(&e) => Err(api(format!("orphan {item}"))(e)),
            _ => Ok(()),
        }
    }

    async fn drop_finalizer(&self, item: &Item, finalizer: &str) -> Result<Next> {
        let Some(objects) = self.api_of(item) else {
            return Ok(Next::Done);
        };
        let Some(now) = objects
            .get_metadata_opt(&item.name)
            .await
            .map_err(api(format!("get {item}")))?
        else {
            return Ok(Next::Done);
        };
        let finalizers = now.metadata.finalizers.unwrap_or_default();
        let left: Vec<_> = finalizers.iter().filter(|f| *f != finalizer).collect();
        let version = &now.metadata.resource_version;
        let patch = json!({"metadata": {"uid": item.uid, "resourceVersion": version, "finalizers": left}});
        match objects
            .patch(&item.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Err(e) if knode_client::is_conflict(&e) => Ok(Next::After(Duration::from_millis(100))),
            Err(e) if !stale(&e) => Err(api(format!("let {item} go"))(e)),
            _ => Ok(Next::Done),
        }
    }
}
