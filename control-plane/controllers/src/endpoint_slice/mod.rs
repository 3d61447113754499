//! Endpoint slices, and the older Endpoints beside them, out of services and pods
//! (upstream: pkg/controller/endpointslice, pkg/controller/endpoint).

mod endpoints;
mod members;
#[cfg(test)]
mod recorded;
mod slices;
mod topology;
mod trigger;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use knode_client::{Api, Client, Delta, ObjectKey};
use kube::api::{DeleteParams, PostParams};

use self::slices::{MANAGED_BY, MANAGER, SERVICE_NAME, SliceChange};
use self::trigger::Triggers;
use crate::Result;
use crate::error::{api, stale};
use crate::runner::{Next, Reconcile, Shared, feed, work};
use crate::unseen::Unseen;

struct Controller {
    shared: Shared,
    /// Writes Endpoints: another controller upstream, with rights of its own.
    endpoints: Client,
    unseen: Unseen,
    triggers: Triggers,
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
    let services = shared.services.clone();
    feed(&shared.nodes, &queue, move |d| {
        let (before, after) = match d {
            Delta::Applied { old, new } => (old.as_deref().and_then(topology::zone), topology::zone(new)),
            Delta::Deleted(_) => return Vec::new(),
        };
        if before == after {
            return Vec::new();
        }
        services
            .list()
            .iter()
            .map(|s| ObjectKey::of(s.as_ref()))
            .collect()
    });
    let endpoints = (shared.config.clients)("endpoint-controller");
    let (unseen, triggers) = (Unseen::default(), Triggers::default());
    let controller = Controller {
        shared,
        endpoints,
        unseen,
        triggers,
    };
    work(controller, queue).await;
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
            self.triggers.forget(key);
            self.delete_endpoints(key).await?;
            return Ok(Next::Done);
        };
        if !members::has_selector(&service) {
            return Ok(Next::Done);
        }
        if let Some(wait) = self
            .unseen
            .behind(key, &self.shared.slices, self.shared.config.clock.monotonic())
        {
            return Ok(Next::After(wait));
        }
        let pods = self.shared.pods.list_namespace(&key.namespace);
        let mut members = members::of(&service, &pods);
        for member in &mut members {
            let node = member
                .node
                .as_deref()
                .and_then(|node| self.shared.nodes.get("", node));
            member.zone = node.and_then(|node| topology::zone(&node));
        }
        let trigger = self.triggers.newest(key, &service, &members);
        self.write_slices(&service, key, &members, trigger.as_deref())
            .await?;
        self.write_endpoints(&service, key, &members, trigger.as_deref())
            .await?;
        self.triggers.told(key, &service, &members);
        Ok(Next::Done)
    }
}

impl Controller {
    async fn write_slices(
        &self,
        service: &Service,
        key: &ObjectKey,
        members: &[members::Member],
        trigger: Option<&str>,
    ) -> Result<()> {
        let existing: Vec<_> = self.shared.slices.list_namespace(&key.namespace);
        let existing: Vec<_> = existing
            .into_iter()
            .filter(|s| owner_of(s).as_ref() == Some(key))
            .collect();
        for change in slices::plan(service, members, &existing) {
            match self.write_slice(key, change, trigger).await {
                Err(e) if !stale(&e) => {
                    return Err(api(format!("write the endpoint slices of service {key}"))(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn write_slice(
        &self,
        key: &ObjectKey,
        change: SliceChange,
        trigger: Option<&str>,
    ) -> Result<(), kube::Error> {
        let slices = Api::<EndpointSlice>::namespaced(self.shared.client.clone(), &key.namespace);
        let params = PostParams::default();
        let written = match change {
            SliceChange::Create(mut slice) => {
                trigger::stamp(&mut slice.metadata.annotations, trigger);
                slices.create(&params, &slice).await?
            }
            SliceChange::Update(mut slice) => {
                trigger::stamp(&mut slice.metadata.annotations, trigger);
                let name = slice.metadata.name.clone().unwrap_or_default();
                slices.replace(&name, &params, &slice).await?
            }
            SliceChange::Delete(name) => {
                return slices.delete(&name, &DeleteParams::default()).await.map(drop);
            }
        };
        self.unseen
            .wrote(key, &written, self.shared.config.clock.monotonic());
        Ok(())
    }

    async fn write_endpoints(
        &self,
        service: &Service,
        key: &ObjectKey,
        members: &[members::Member],
        trigger: Option<&str>,
    ) -> Result<()> {
        let existing = self.shared.endpoints.get_key(key);
        let Some(mut wanted) = endpoints::plan(service, members, existing.as_deref()) else {
            return Ok(());
        };
        trigger::stamp(&mut wanted.metadata.annotations, trigger);
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

/// Whether this pod's Ready condition holds.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
