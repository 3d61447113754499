//! Pods leave nodes whose NoExecute taints they don't tolerate (upstream: pkg/controller/tainteviction).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use knode_client::{Api, EventRecorder, ObjectKey};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::taints::{Stay, stay};
use crate::Result;
use crate::error::{api, stale};
use crate::runner::{Next, Reconcile, Shared, feed, work};

struct Controller {
    shared: Shared,
    events: EventRecorder,
    /// Which pod (by uid) has had to go, and since when.
    since: Mutex<HashMap<ObjectKey, (String, Duration)>>,
}

/// Runs until its queue is closed.
pub(super) async fn run(shared: Shared) {
    let queue = shared.queue();
    feed(&shared.pods, &queue, |d| vec![d.key()]);
    let pods = shared.pods.clone();
    feed(&shared.nodes, &queue, move |d| {
        let name = d.key().name;
        let on_node = |p: &Pod| {
            p.spec
                .as_ref()
                .is_some_and(|s| s.node_name.as_deref() == Some(&name))
        };
        pods.list()
            .iter()
            .filter(|p| on_node(p))
            .map(|p| ObjectKey::of(p.as_ref()))
            .collect()
    });
    let events = shared.recorder("taint-eviction-controller");
    work(
        Controller {
            shared,
            events,
            since: Mutex::default(),
        },
        queue,
    )
    .await;
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "taint-eviction";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(pod) = self.shared.pods.get_key(key) else {
            self.since().remove(key);
            return Ok(Next::Done);
        };
        match self.time_left(&pod, key) {
            None => Ok(Next::Done),
            Some(left) if !left.is_zero() => Ok(Next::After(left)),
            Some(_) => self.evict(&pod, key).await,
        }
    }
}

impl Controller {
    fn since(&self) -> MutexGuard<'_, HashMap<ObjectKey, (String, Duration)>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None if the pod may stay; else how long it still may.
    fn time_left(&self, pod: &Pod, key: &ObjectKey) -> Option<Duration> {
        let uid = pod.metadata.uid.clone()?;
        let mut since = self.since();
        let limit = match self.stay(pod) {
            Stay::For(limit) if pod.metadata.deletion_timestamp.is_none() => limit,
            _ => {
                since.remove(key);
                return None;
            }
        };
        let now = self.shared.config.clock.monotonic();
        let entry = since.entry(key.clone()).or_insert_with(|| (uid.clone(), now));
        if entry.0 != uid {
            *entry = (uid, now);
        }
        Some(limit.saturating_sub(now.saturating_sub(entry.1)))
    }

    fn stay(&self, pod: &Pod) -> Stay {
        let Some(spec) = &pod.spec else {
            return Stay::Forever;
        };
        let node = spec
            .node_name
            .as_deref()
            .and_then(|n| self.shared.nodes.get("", n));
        let taints = node
            .as_deref()
            .and_then(|n: &Node| n.spec.as_ref()?.taints.clone())
            .unwrap_or_default();
        stay(&taints, spec.tolerations.as_deref().unwrap_or_default())
    }

    async fn evict(&self, pod: &Pod, key: &ObjectKey) -> Result<Next> {
        let reference = ObjectReference {
            kind: Some("Pod".into()),
            api_version: Some("v1".into()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            ..ObjectReference::default()
        };
        let message = format!("Marking for deletion Pod {key}");
        self.events.normal(reference, "TaintManagerEviction", message);
        let pods = Api::<Pod>::namespaced(self.shared.client.clone(), &key.namespace);
        let patch = Patch::Strategic(disruption(pod, self.shared.config.clock.now()));
        match pods
            .patch_status(&key.name, &PatchParams::default(), &patch)
            .await
        {
            Err(e) if !stale(&e) => return Err(api(format!("say why pod {key} goes"))(e)),
            _ => {}
        }
        match pods.delete(&key.name, &DeleteParams::default()).await {
            Err(e) if !stale(&e) => Err(api(format!("evict pod {key}"))(e)),
            _ => Ok(Next::Done),
        }
    }
}

/// The patch that adds the condition DisruptionTarget.
pub(super) fn disruption(pod: &Pod, now: jiff::Timestamp) -> Value {
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let mut order: Vec<Value> = conditions
        .filter(|c| c.type_ != "DisruptionTarget")
        .map(|c| json!({"type": c.type_}))
        .collect();
    order.push(json!({"type": "DisruptionTarget"}));
    json!({
        "metadata": {"uid": pod.metadata.uid},
        "status": {"$setElementOrder/conditions": order, "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastProbeTime": null,
            "lastTransitionTime": now, "observedGeneration": pod.metadata.generation,
        }]},
    })
}
