//! What the kubelet's two halves see of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knode_kubelet::model::{Cause, Eviction, ProbeKind};
use knode_kubelet::{Kubelet, NodeCredentials, NodeView, ProbeCounts};
use knode_kubelet_node::{
    ClaimedVolume, EvictionCause, NodeAgent, PodEviction, PodSource, ProbeCount, VolumeUsage,
};
use knode_linux::filewatch::FileSystemUsage;
use knode_volumes::Drivers;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The Node object as the pod side sees it: there once the node's side has started.
pub struct Late {
    seen: OnceLock<Seen>,
    credentials: Arc<NodeCredentials>,
    drivers: Arc<dyn Drivers>,
}

struct Seen {
    node: watch::Receiver<Option<Arc<Node>>>,
    shutting_down: watch::Receiver<bool>,
}

impl Late {
    /// Not there yet; the credentials are the node's own for registries, the drivers those of its volumes.
    pub fn new(credentials: Arc<NodeCredentials>, drivers: Arc<dyn Drivers>) -> Self {
        Self {
            seen: OnceLock::new(),
            credentials,
            drivers,
        }
    }

    /// Connects it to the node's side; only the first call counts.
    pub fn fill(&self, agent: &NodeAgent) {
        let seen = Seen {
            node: agent.node(),
            shutting_down: agent.shutting_down(),
        };
        // A second call finds the same node.
        let _ = self.seen.set(seen);
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.seen.get()?.node.borrow().clone()
    }
}

impl NodeView for Late {
    fn allocatable(&self) -> BTreeMap<String, Quantity> {
        self.node()
            .and_then(|n| n.status.as_ref()?.allocatable.clone())
            .unwrap_or_default()
    }

    fn labels(&self) -> BTreeMap<String, String> {
        self.node()
            .and_then(|n| n.metadata.labels.clone())
            .unwrap_or_default()
    }

    fn uid(&self) -> Option<String> {
        self.node()?.metadata.uid.clone()
    }

    fn is_shutting_down(&self) -> bool {
        self.seen.get().is_some_and(|seen| *seen.shutting_down.borrow())
    }

    fn registry_credentials(&self) -> Option<Arc<NodeCredentials>> {
        Some(self.credentials.clone())
    }

    fn drivers(&self) -> Option<Arc<dyn Drivers>> {
        Some(self.drivers.clone())
    }

    fn pressures(&self) -> Vec<String> {
        let node = self.node();
        let conditions = node
            .iter()
            .flat_map(|n| n.status.as_ref()?.conditions.clone())
            .flatten();
        conditions
            .filter(|c| c.type_.ends_with("Pressure") && c.status == "True")
            .map(|c| c.type_)
            .collect()
    }
}

/// The pods as the node's API shows them.
pub struct Pods(pub Arc<Kubelet>);

#[async_trait]
impl PodSource for Pods {
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.0.pods()
    }

    fn probes(&self) -> Vec<ProbeCount> {
        let all = self.0.probes().into_iter();
        let of_pod = |(pod, counts): (Arc<Pod>, ProbeCounts)| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            let one = move |((container, kind), results): ((String, ProbeKind), [u64; 3])| ProbeCount {
                namespace: text(&pod.metadata.namespace),
                pod: text(&pod.metadata.name),
                uid: text(&pod.metadata.uid),
                container,
                kind: kind.as_str(),
                results,
            };
            counts.into_iter().map(one)
        };
        all.flat_map(of_pod).collect()
    }

    fn claimed_volumes(&self) -> Vec<ClaimedVolume> {
        let all = self.0.claimed_volumes().into_iter();
        let named = all.map(|one| ClaimedVolume {
            uid: one.uid,
            volume: one.volume,
            namespace: one.namespace,
            claim: one.claim,
            path: one.path,
        });
        named.collect()
    }

    async fn volume_usage(&self, path: &Path) -> Option<VolumeUsage> {
        match self.0.volume_usage(path).await? {
            Ok(told) => Some(VolumeUsage {
                fs: FileSystemUsage {
                    capacity: told.capacity,
                    available: told.available,
                    used: told.used,
                    inodes: told.inodes,
                    inodes_free: told.inodes_free,
                },
                inodes_used: told.inodes_used,
                abnormal: told.abnormal,
            }),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a volume's driver does not say how full it is");
                None
            }
        }
    }

    async fn clear_ended(&self) {
        self.0.clear_ended().await;
    }

    async fn images_listed(&self, present: &BTreeSet<String>, asked: Timestamp) {
        self.0.images_listed(present, asked).await;
    }

    async fn evict(&self, uid: &str, eviction: PodEviction) -> bool {
        let eviction = Eviction {
            message: eviction.message,
            marks: eviction.marks,
            grace: eviction.grace,
            for_others: eviction.for_others,
            cause: match eviction.cause {
                EvictionCause::Scarcity => Cause::Scarcity,
                EvictionCause::Shutdown => Cause::Shutdown,
            },
        };
        self.0.evict(uid, eviction).await
    }
}

/// Whether the node is Ready, or why not.
pub fn readiness(node: Option<&Node>) -> Result<(), String> {
    let Some(node) = node else {
        return Err("the node to register".into());
    };
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    match conditions.into_iter().find(|c| c.type_ == "Ready") {
        Some(c) if c.status == "True" => Ok(()),
        Some(c) => Err(format!(
            "node Ready: {}",
            c.message.as_deref().unwrap_or_default()
        )),
        None => Err("the node's first status".into()),
    }
}

/// Lets the node's status be looked at again whenever the pod network changes.
pub fn spawn_wake<T: Send + Sync + 'static>(
    agent: &NodeAgent,
    mut network: watch::Receiver<T>,
    tasks: &mut JoinSet<String>,
) {
    let wake = agent.waker();
    tasks.spawn(async move {
        while network.changed().await.is_ok() {
            wake.notify_one();
        }
        "the pod network ended".into()
    });
}
