//! Endpoint slices, and the older Endpoints beside them, out of services and pods
//! (upstream: pkg/controller/endpointslice, pkg/controller/endpoint).

mod endpoints;
mod members;
mod slices;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knode_client::{Api, Client, Delta, ObjectKey};
use kube::api::{DeleteParams, PostParams};

use self::slices::{MANAGED_BY, MANAGER, SERVICE_NAME, SliceChange};
use crate::Result;
use crate::error::{api, stale};
use crate::runner::{Next, Reconcile, Shared, feed, work};

/// When the newest change behind an object happened.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

struct Controller {
    shared: Shared,
    /// Writes Endpoints: another controller upstream, with rights of its own.
    endpoints: Client,
}

/// Runs until its queue is closed.
pub(crate) async fn run(shared: Shared) {
    let queue = shared.queue();
    feed(&shared.services, &queue, |d| vec![d.key()]);
    feed(&shared.slices, &queue, |d| {
        owner_of(d.object()).into_iter().collect()
    });
    feed(&shared.endpoints, &queue, |d| vec![d.key()]);
    let services = shared.services.clone();
    feed(&shared.pods, &queue, move |d| {
        let namespace = d.key().namespace;
        let selected = |s: &Arc<Service>| match d {
            Delta::Applied { old, new } => {
                let before = old.as_deref().is_some_and(|p| members::selects(s, p));
                let after = members::selects(s, new);
                // A change that no endpoint shows needs no look at the service.
                (before || after)
                    && !(before && after && old.as_deref().is_some_and(|o| members::same(o, new)))
            }
            Delta::Deleted(pod) => members::selects(s, pod),
        };
        services
            .list_namespace(&namespace)
            .iter()
            .filter(|s| selected(s))
            .map(|s| ObjectKey::of(s.as_ref()))
            .collect()
    });
    let endpoints = (shared.config.clients)("endpoint-controller");
    work(Controller { shared, endpoints }, queue).await;
}

/// The service that one of our slices belongs to.
fn owner_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    (labels.get(MANAGED_BY)? == MANAGER).then_some(())?;
    Some(ObjectKey::new(
        slice.metadata.namespace.clone()?,
        labels.get(SERVICE_NAME)?,
    ))
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "endpointslice";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(service) = self.shared.services.get_key(key) else {
            // The slices go with their owner; Endpoints carry no owner.
            self.delete_endpoints(key).await?;
            return Ok(Next::Done);
        };
        if !members::has_selector(&service) {
            return Ok(Next::Done);
        }
        let pods = self.shared.pods.list_namespace(&key.namespace);
        let members = members::of(&service, &pods);
        self.write_slices(&service, key, &members).await?;
        self.write_endpoints(&service, key, &members).await?;
        Ok(Next::Done)
    }
}

impl Controller {
    async fn write_slices(
        &self,
        service: &Service,
        key: &ObjectKey,
        members: &[members::Member],
    ) -> Result<()> {
        let existing: Vec<_> = self.shared.slices.list_namespace(&key.namespace);
        let existing: Vec<_> = existing
            .into_iter()
            .filter(|s| owner_of(s).as_ref() == Some(key))
            .collect();
        let slices = Api::<EndpointSlice>::namespaced(self.shared.client.clone(), &key.namespace);
        for change in slices::plan(service, members, &existing) {
            let written = match change {
                SliceChange::Create(mut slice) => {
                    stamp(&mut slice.metadata.annotations, service, members);
                    slices.create(&PostParams::default(), &slice).await.map(drop)
                }
                SliceChange::Update(mut slice) => {
                    stamp(&mut slice.metadata.annotations, service, members);
                    let name = slice.metadata.name.clone().unwrap_or_default();
                    slices
                        .replace(&name, &PostParams::default(), &slice)
                        .await
                        .map(drop)
                }
                SliceChange::Delete(name) => slices.delete(&name, &DeleteParams::default()).await.map(drop),
            };
            match written {
                Err(e) if !stale(&e) => {
                    return Err(api(format!("write the endpoint slices of service {key}"))(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn write_endpoints(
        &self,
        service: &Service,
        key: &ObjectKey,
        members: &[members::Member],
    ) -> Result<()> {
        let existing = self.shared.endpoints.get_key(key);
        let Some(mut wanted) = endpoints::plan(service, members, existing.as_deref()) else {
            return Ok(());
        };
        stamp(&mut wanted.metadata.annotations, service, members);
        let all = Api::<Endpoints>::namespaced(self.endpoints.clone(), &key.namespace);
        let written = match existing {
            Some(_) => all.replace(&key.name, &PostParams::default(), &wanted).await,
            None => all.create(&PostParams::default(), &wanted).await,
        };
        match written {
            Err(e) if !stale(&e) => Err(api(format!("write the endpoints of service {key}"))(e)),
            _ => Ok(()),
        }
    }

    async fn delete_endpoints(&self, key: &ObjectKey) -> Result<()> {
        let ours = self
            .shared
            .endpoints
            .get_key(key)
            .is_some_and(|e| endpoints::is_ours(&e));
        if !ours {
            return Ok(());
        }
        let all = Api::<Endpoints>::namespaced(self.endpoints.clone(), &key.namespace);
        match all.delete(&key.name, &DeleteParams::default()).await {
            Err(e) if !stale(&e) => Err(api(format!("delete the endpoints of service {key}"))(e)),
            _ => Ok(()),
        }
    }
}

/// Notes when the newest change happened that led here: a pod's Ready condition, or the service's creation.
fn stamp(annotations: &mut Option<BTreeMap<String, String>>, service: &Service, members: &[members::Member]) {
    let made = service.metadata.creation_timestamp.clone();
    let newest: Option<Time> = members.iter().filter_map(|m| m.changed.clone()).chain(made).max();
    if let Some(Ok(text)) =
        newest.map(|t| serde_json::to_value(t).map(|v| v.as_str().unwrap_or_default().to_owned()))
    {
        annotations
            .get_or_insert_default()
            .insert(TRIGGER_TIME.into(), text);
    }
}

/// Whether this pod's Ready condition holds.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
