//! One pod a node (upstream: pkg/controller/daemon).

mod placement;
mod plan;
mod pod;
#[cfg(test)]
mod recorded;
mod revision;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::Pod;
use knode_client::{Api, EventRecorder, ObjectKey};
use kube::Resource;
use kube::api::{DeleteParams, PostParams, Preconditions};

use self::plan::Plan;
use crate::Result;
use crate::error::{api, stale};
use crate::owner::{controller, is_controlled_by};
use crate::runner::{Next, Reconcile, Shared, feed, work};
use crate::unseen::Unseen;

struct Controller {
    shared: Shared,
    events: EventRecorder,
    unseen: Unseen,
}

/// Runs until its queue is closed.
pub(crate) async fn run(shared: Shared) {
    let queue = shared.queue();
    feed(&shared.daemon_sets, &queue, |d| vec![d.key()]);
    feed(&shared.pods, &queue, |d| {
        owner_key(&d.object().metadata).into_iter().collect()
    });
    feed(&shared.revisions, &queue, |d| {
        owner_key(&d.object().metadata).into_iter().collect()
    });
    let sets = shared.daemon_sets.clone();
    feed(&shared.nodes, &queue, move |d| {
        let relevant = match d {
            knode_client::Delta::Applied { old: Some(old), new } => placement::differs(old, new),
            _ => true,
        };
        let all = if relevant { sets.list() } else { Vec::new() };
        all.iter().map(|s| ObjectKey::of(s.as_ref())).collect()
    });
    let events = shared.recorder("daemonset-controller");
    let unseen = Unseen::default();
    work(
        Controller {
            shared,
            events,
            unseen,
        },
        queue,
    )
    .await;
}

fn owner_key(meta: &kube::api::ObjectMeta) -> Option<ObjectKey> {
    let owner = controller(meta).filter(|o| o.kind == "DaemonSet")?;
    Some(ObjectKey::new(meta.namespace.clone()?, &owner.name))
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "daemonset";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(set) = self.shared.daemon_sets.get_key(key) else {
            return Ok(Next::Done);
        };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        if let Some(wait) = self
            .unseen
            .behind(key, &self.shared.pods, self.shared.config.clock.monotonic())
        {
            return Ok(Next::After(wait));
        }
        let Some(revision) = self.current_revision(&set, key).await? else {
            return Ok(Next::Done);
        };
        let pods = self.pods(&set, key);
        let nodes = self.shared.nodes.list();
        let now = self.shared.config.clock.now();
        let plan = plan::plan(&set, &nodes, &pods, &revision.hash, now);
        self.carry_out(&set, key, &plan, &revision.hash).await?;
        self.write_status(&set, key, &plan).await?;
        self.drop_old_revisions(&set, key, &revision.hash, &pods).await?;
        Ok(plan.again.map_or(Next::Done, Next::After))
    }
}

/// The revision that the template is now.
struct Current {
    hash: String,
}

impl Controller {
    fn pods(&self, set: &DaemonSet, key: &ObjectKey) -> Vec<Arc<Pod>> {
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let all = self.shared.pods.list_namespace(&key.namespace);
        all.into_iter()
            .filter(|p| is_controlled_by(&p.metadata, uid))
            .collect()
    }

    fn revisions(&self, set: &DaemonSet, key: &ObjectKey) -> Vec<Arc<ControllerRevision>> {
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let all = self.shared.revisions.list_namespace(&key.namespace);
        all.into_iter()
            .filter(|r| is_controlled_by(&r.metadata, uid))
            .collect()
    }

    /// Makes sure that the template's revision is kept and is the newest; nothing if somebody was quicker.
    async fn current_revision(&self, set: &DaemonSet, key: &ObjectKey) -> Result<Option<Current>> {
        let wanted = revision::of(set).map_err(|source| crate::Error::Encode {
            what: "a pod template",
            source,
        })?;
        let existing = self.revisions(set, key);
        let newest = existing.iter().map(|r| r.revision).max().unwrap_or_default();
        let revisions = Api::<ControllerRevision>::namespaced(self.shared.client.clone(), &key.namespace);
        let name = wanted.metadata.name.clone().unwrap_or_default();
        let written = match existing.iter().find(|r| r.metadata.name == wanted.metadata.name) {
            Some(there) if there.revision == newest => Ok(()),
            Some(there) => {
                let mut again = there.as_ref().clone();
                again.revision = newest + 1;
                revisions
                    .replace(&name, &PostParams::default(), &again)
                    .await
                    .map(drop)
            }
            None => {
                let new = ControllerRevision {
                    revision: newest + 1,
                    ..wanted
                };
                revisions.create(&PostParams::default(), &new).await.map(drop)
            }
        };
        match written {
            Ok(()) => Ok(Some(Current {
                hash: revision::hash_of_name(set, &name),
            })),
            Err(e) if stale(&e) => Ok(None),
            Err(e) => Err(api(format!("keep the revision {name} of DaemonSet {key}"))(e)),
        }
    }

    async fn carry_out(&self, set: &DaemonSet, key: &ObjectKey, plan: &Plan, hash: &str) -> Result<()> {
        for pod in &plan.delete {
            self.delete_pod(set, key, pod).await?;
        }
        for node in &plan.create {
            self.create_pod(set, key, node, hash).await?;
        }
        Ok(())
    }

    async fn delete_pod(&self, set: &DaemonSet, key: &ObjectKey, pod: &Pod) -> Result<()> {
        let pods = Api::<Pod>::namespaced(self.shared.client.clone(), &key.namespace);
        let name = pod.metadata.name.clone().unwrap_or_default();
        let preconditions = Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match pods.delete(&name, &params).await {
            Ok(_) => {
                self.unseen
                    .deleted(key, pod, self.shared.config.clock.monotonic());
                let message = format!("Deleted pod: {name}");
                self.events
                    .normal(set.object_ref(&()), "SuccessfulDelete", message);
                Ok(())
            }
            Err(e) if stale(&e) => Ok(()),
            Err(e) => Err(api(format!("delete pod {name} of DaemonSet {key}"))(e)),
        }
    }

    async fn create_pod(&self, set: &DaemonSet, key: &ObjectKey, node: &str, hash: &str) -> Result<()> {
        let pods = Api::<Pod>::namespaced(self.shared.client.clone(), &key.namespace);
        let new = pod::on_node(set, node, hash);
        match pods.create(&PostParams::default(), &new).await {
            Ok(made) => {
                self.unseen
                    .wrote(key, &made, self.shared.config.clock.monotonic());
                let message = format!("Created pod: {}", made.metadata.name.unwrap_or_default());
                self.events
                    .normal(set.object_ref(&()), "SuccessfulCreate", message);
                Ok(())
            }
            Err(e) => {
                let message = format!("Error creating: {e}");
                self.events.warning(set.object_ref(&()), "FailedCreate", message);
                Err(api(format!("create a pod of DaemonSet {key} on node {node}"))(e))
            }
        }
    }

    async fn write_status(&self, set: &DaemonSet, key: &ObjectKey, plan: &Plan) -> Result<()> {
        if set.status.as_ref() == Some(&plan.status) {
            return Ok(());
        }
        let wanted = DaemonSet {
            status: Some(plan.status.clone()),
            ..set.clone()
        };
        let sets = Api::<DaemonSet>::namespaced(self.shared.client.clone(), &key.namespace);
        match sets
            .replace_status(&key.name, &PostParams::default(), &wanted)
            .await
        {
            Err(e) if !stale(&e) => Err(api(format!("write the status of DaemonSet {key}"))(e)),
            _ => Ok(()),
        }
    }

    async fn drop_old_revisions(
        &self,
        set: &DaemonSet,
        key: &ObjectKey,
        hash: &str,
        pods: &[Arc<Pod>],
    ) -> Result<()> {
        let revisions = Api::<ControllerRevision>::namespaced(self.shared.client.clone(), &key.namespace);
        for name in revision::superfluous(set, &self.revisions(set, key), hash, pods) {
            match revisions.delete(&name, &DeleteParams::default()).await {
                Err(e) if !stale(&e) => {
                    return Err(api(format!("drop the revision {name} of DaemonSet {key}"))(e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
