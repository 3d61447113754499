//! Pods whose node is gone, pods that were deleted before they were scheduled, and too many that have ended
//! (upstream: pkg/controller/podgc).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use knode_client::{Api, Delta, ObjectKey};
use kube::api::{DeleteParams, Preconditions};

use crate::Result;
use crate::error::{api, stale};
use crate::runner::{Next, Reconcile, Shared, feed, work};

/// A node must have been missing this long (upstream's quarantine).
const QUARANTINE: Duration = Duration::from_secs(40);

/// So many pods that have ended are kept (`--terminated-pod-gc-threshold`).
const ENDED_KEPT: usize = 12_500;

struct Controller {
    shared: Shared,
    /// Nodes that are named by pods and are not there, and since when.
    missing: Mutex<HashMap<String, Timestamp>>,
}

/// Runs until its queue is closed.
pub(crate) async fn run(shared: Shared) {
    let queue = shared.queue();
    feed(&shared.pods, &queue, |d| vec![d.key()]);
    let pods = shared.pods.clone();
    feed(&shared.nodes, &queue, move |d| match d {
        Delta::Deleted(node) => {
            let name = node.metadata.name.as_deref();
            pods.list()
                .iter()
                .filter(|p| node_of(p) == name)
                .map(|p| ObjectKey::of(p.as_ref()))
                .collect()
        }
        Delta::Applied { .. } => Vec::new(),
    });
    work(
        Controller {
            shared,
            missing: Mutex::default(),
        },
        queue,
    )
    .await;
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

/// What the collector makes of a pod.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    /// Look again after this time: the node may come back.
    Quarantine(Duration),
    Remove(&'static str),
}

/// Judges a pod by the time since which its node has been missing, if it is.
fn judge(pod: &Pod, node_missing_since: Option<Timestamp>, now: Timestamp) -> Verdict {
    match (node_of(pod), node_missing_since) {
        (None, _) if pod.metadata.deletion_timestamp.is_some() => {
            Verdict::Remove("deleted before it was scheduled")
        }
        (Some(_), Some(since)) => {
            let gone_for = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            match QUARANTINE.checked_sub(gone_for) {
                Some(left) if !left.is_zero() => Verdict::Quarantine(left),
                _ => Verdict::Remove("its node is gone"),
            }
        }
        _ => Verdict::Keep,
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The oldest of the pods that have ended, beyond `keep`.
fn surplus(pods: Vec<Arc<Pod>>, keep: usize) -> Vec<Arc<Pod>> {
    let mut ended: Vec<_> = pods.into_iter().filter(|p| has_ended(p)).collect();
    ended.sort_by_key(|p| p.metadata.creation_timestamp.clone());
    ended.truncate(ended.len().saturating_sub(keep));
    ended
}

impl Controller {
    /// Since when the pod's node has been missing from the cache.
    fn missing_since(&self, pod: &Pod, now: Timestamp) -> Option<Timestamp> {
        let node = node_of(pod)?;
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.nodes.get("", node).is_some() {
            missing.remove(node);
            return None;
        }
        Some(*missing.entry(node.to_owned()).or_insert(now))
    }

    /// Asks the server itself: the cache may lag behind.
    async fn node_is_there(&self, pod: &Pod) -> Result<bool> {
        let Some(node) = node_of(pod) else {
            return Ok(false);
        };
        let nodes = Api::<Node>::all(self.shared.client.clone());
        Ok(nodes
            .get_opt(node)
            .await
            .map_err(api(format!("get node {node}")))?
            .is_some())
    }
}

impl Controller {
    /// Deletes a pod without waiting for its node.
    async fn remove(&self, pod: &Pod, why: &str) -> Result<()> {
        let key = ObjectKey::of(pod);
        let preconditions = Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        tracing::info!(pod = %key, why, "pod removed");
        match Api::<Pod>::namespaced(self.shared.client.clone(), &key.namespace)
            .delete(&key.name, &params)
            .await
        {
            Err(e) if !stale(&e) => Err(api(format!("delete pod {key}"))(e)),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "pod-garbage-collector";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(pod) = self.shared.pods.get_key(key) else {
            return Ok(Next::Done);
        };
        let now = self.shared.config.clock.now();
        let why = match judge(&pod, self.missing_since(&pod, now), now) {
            Verdict::Keep if has_ended(&pod) && self.shared.pods.len() > ENDED_KEPT => {
                for old in surplus(self.shared.pods.list(), ENDED_KEPT) {
                    self.remove(&old, "too many pods have ended").await?;
                }
                return Ok(Next::Done);
            }
            Verdict::Keep => return Ok(Next::Done),
            Verdict::Quarantine(left) => return Ok(Next::After(left)),
            Verdict::Remove(why) => why,
        };
        if self.node_is_there(&pod).await? {
            return Ok(Next::Done);
        }
        self.remove(&pod, why).await?;
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(node: Option<&str>, deleted: bool) -> Pod {
        let at = deleted.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({"metadata": {"deletionTimestamp": at},
            "spec": {"nodeName": node, "containers": []}}))
        .unwrap()
    }

    #[test]
    fn pods_without_a_place_go() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let since = |s: &str| Some(s.parse::<Timestamp>().unwrap());
        assert_eq!(judge(&pod(Some("here"), true), None, now), Verdict::Keep);
        assert_eq!(judge(&pod(None, false), None, now), Verdict::Keep);
        assert!(matches!(judge(&pod(None, true), None, now), Verdict::Remove(_)));
        let away = pod(Some("gone"), false);
        assert_eq!(
            judge(&away, since("2026-01-01T00:00:50Z"), now),
            Verdict::Quarantine(Duration::from_secs(30))
        );
        assert!(matches!(
            judge(&away, since("2026-01-01T00:00:20Z"), now),
            Verdict::Remove(_)
        ));
    }

    #[test]
    fn the_oldest_of_too_many_ended_pods_go() {
        let pod = |phase: &str, second: u8| -> Arc<Pod> {
            let made = format!("2026-01-01T00:00:{second:02}Z");
            let pod = json!({"metadata": {"creationTimestamp": made}, "status": {"phase": phase}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let all = vec![
            pod("Failed", 3),
            pod("Running", 0),
            pod("Succeeded", 1),
            pod("Succeeded", 2),
        ];
        assert_eq!(surplus(all.clone(), 2), [pod("Succeeded", 1)]);
        assert!(surplus(all, 3).is_empty());
    }
}
