//! Watches heartbeats; a node that falls silent is said to be lost, tainted, and its pods not ready
//! (upstream: pkg/controller/nodelifecycle).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use knode_client::{Api, EventRecorder, ObjectKey};
use kube::Resource;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::health::{self, Beat, condition};
use super::taints;
use crate::Result;
use crate::error::{api, stale};
use crate::runner::{Next, Reconcile, Shared, feed, work};

struct Controller {
    shared: Shared,
    events: EventRecorder,
    beats: Mutex<HashMap<String, Beat>>,
}

/// Runs until its queue is closed.
pub(super) async fn run(shared: Shared) {
    let queue = shared.queue();
    feed(&shared.nodes, &queue, |d| vec![d.key()]);
    feed(&shared.leases, &queue, |d| vec![ObjectKey::new("", d.key().name)]);
    let events = shared.recorder("node-controller");
    work(
        Controller {
            shared,
            events,
            beats: Mutex::default(),
        },
        queue,
    )
    .await;
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "node-lifecycle";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(node) = self.shared.nodes.get_key(key) else {
            self.beats().remove(&key.name);
            return Ok(Next::Done);
        };
        let left = self.beat(&node, &key.name);
        if left.is_zero() {
            self.mark_lost(&node, &key.name).await?;
        }
        self.taint(&node, &key.name).await?;
        if condition(&node, "Ready").is_some_and(|c| c.status != "True") {
            self.mark_pods(&key.name).await?;
        }
        Ok(if left.is_zero() {
            Next::Done
        } else {
            Next::After(left)
        })
    }
}

impl Controller {
    fn beats(&self) -> std::sync::MutexGuard<'_, HashMap<String, Beat>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the newest heartbeat; the time that the node has left.
    fn beat(&self, node: &Node, name: &str) -> Duration {
        let lease = self.shared.leases.get(super::LEASES, name);
        let renewed = lease.and_then(|l| l.spec.as_ref()?.renew_time.clone());
        let now = self.shared.config.clock.monotonic();
        let mut beats = self.beats();
        let beat = Beat::observe(beats.get(name), node, renewed, now);
        let left = beat.left(now);
        beats.insert(name.to_owned(), beat);
        left
    }

    async fn mark_lost(&self, node: &Node, name: &str) -> Result<()> {
        let Some(wanted) = health::lost(node, self.shared.config.clock.now()) else {
            return Ok(());
        };
        tracing::warn!(node = name, "node lost: no heartbeat");
        let nodes = Api::<Node>::all(self.shared.client.clone());
        match nodes.replace_status(name, &PostParams::default(), &wanted).await {
            Err(e) if !stale(&e) => return Err(api(format!("mark node {name} as lost"))(e)),
            Err(_) => return Ok(()),
            Ok(_) => {}
        }
        let reference = ObjectReference {
            namespace: None,
            resource_version: None,
            ..node.object_ref(&())
        };
        self.events.normal(
            reference,
            "NodeNotReady",
            format!("Node {name} status is now: NodeNotReady"),
        );
        Ok(())
    }

    async fn taint(&self, node: &Node, name: &str) -> Result<()> {
        let Some(taints) = taints::wanted(node, self.shared.config.clock.now()) else {
            return Ok(());
        };
        let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints}});
        let nodes = Api::<Node>::all(self.shared.client.clone());
        match nodes
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Err(e) if !stale(&e) => Err(api(format!("taint node {name}"))(e)),
            _ => Ok(()),
        }
    }

    /// Pods on a node that isn't ready aren't either.
    async fn mark_pods(&self, node: &str) -> Result<()> {
        let on_node = |p: &Pod| {
            p.spec
                .as_ref()
                .is_some_and(|s| s.node_name.as_deref() == Some(node))
        };
        for pod in self.shared.pods.list().iter().filter(|p| on_node(p)) {
            let Some(wanted) = health::unready(pod, self.shared.config.clock.now()) else {
                continue;
            };
            let key = ObjectKey::of(pod.as_ref());
            let pods = Api::<Pod>::namespaced(self.shared.client.clone(), &key.namespace);
            match pods
                .replace_status(&key.name, &PostParams::default(), &wanted)
                .await
            {
                Ok(_) => self
                    .events
                    .warning(pod.object_ref(&()), "NodeNotReady", "Node is not ready"),
                Err(e) if stale(&e) => {}
                Err(e) => return Err(api(format!("mark pod {key} as not ready"))(e)),
            }
        }
        Ok(())
    }
}
