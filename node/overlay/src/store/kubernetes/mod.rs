//! Leases as annotations of nodes (flannel's `pkg/subnet/kube`).

mod annotations;
mod node;
mod view;

use std::net::Ipv4Addr;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use jiff::Timestamp;
use knode_client::{Api, Client, WatchConfig};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{LeaseStore, Previous, StoreError};
use crate::lease::{Lease, LeaseAttributes, Leases};
use annotations::Annotations;
use node::NodeView;
use view::{OwnNode, View};

/// Leases in the annotations of Node objects; the subnet is `spec.podCIDR`. Follows the nodes in a task that ends
/// with it.
pub struct KubernetesLeases {
    api: Api<NodeView>,
    node: String,
    leases: watch::Receiver<Option<Arc<Leases>>>,
    own: watch::Receiver<Option<OwnNode>>,
    follower: AbortHandle,
    names: Annotations,
    announces: bool,
}

impl KubernetesLeases {
    /// Starts to follow the nodes. Must be called within a tokio runtime.
    pub fn start(client: Client, node: impl Into<String>) -> Self {
        Self::named(client, node, Annotations::default())
    }

    /// Likewise with another prefix of the annotations than upstream's default (`--kube-annotation-prefix`).
    pub fn start_prefixed(client: Client, node: impl Into<String>, prefix: &str) -> Self {
        Self::named(client, node, Annotations::new(prefix))
    }

    fn named(client: Client, node: impl Into<String>, names: Annotations) -> Self {
        let (node, api) = (node.into(), Api::all(client));
        let (leases, leases_seen) = watch::channel(None);
        let (own, own_seen) = watch::channel(None);
        let view = View::new(node.clone(), names.clone());
        let follower = tokio::spawn(follow(api.clone(), view, leases, own)).abort_handle();
        Self {
            api,
            node,
            leases: leases_seen,
            own: own_seen,
            follower,
            names,
            announces: true,
        }
    }

    /// Whether to set the node's condition NetworkUnavailable; otherwise it is left to others.
    #[must_use]
    pub fn announcing(mut self, announces: bool) -> Self {
        self.announces = announces;
        self
    }

    /// Waits until the node is there and `ready` finds in it what is needed.
    async fn own<T>(&self, mut ready: impl FnMut(&OwnNode) -> Option<T>) -> Result<T, StoreError> {
        let mut own = self.own.clone();
        loop {
            if let Some(found) = own.borrow_and_update().as_ref().and_then(&mut ready) {
                return Ok(found);
            }
            own.changed().await.map_err(|_| StoreError::Ended)?;
        }
    }

    async fn patch_status(&self, op: &'static str, patch: serde_json::Value) -> Result<(), StoreError> {
        // Nodes may patch their own status alone; the server takes annotations along.
        let done = self
            .api
            .patch_status(&self.node, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        done.map(drop).map_err(|source| StoreError::Api {
            op,
            node: self.node.clone(),
            source: Box::new(source),
        })
    }
}

impl Drop for KubernetesLeases {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

#[async_trait]
impl LeaseStore for KubernetesLeases {
    async fn previous(&self, _: Ipv4Addr) -> Result<Previous, StoreError> {
        self.own(|own| Some(own.previous.clone())).await
    }

    async fn acquire(&self, attributes: &LeaseAttributes) -> Result<Lease, StoreError> {
        let node = &self.node;
        if self.own(|own| Some(own.subnet)).await?.is_none() {
            tracing::info!(%node, "waiting for the node's spec.podCIDR");
        }
        let of = |own: &OwnNode| Some((own.subnet?, own.ipv6_subnet, own.attributes.clone()));
        let (subnet, ipv6_subnet, recorded) = self.own(of).await?;
        if attributes.backend_v6.is_some() && ipv6_subnet.is_none() {
            return Err(StoreError::NoIpv6 { node: node.clone() });
        }
        if recorded.as_ref() != Some(attributes) {
            let annotations = self.names.write(attributes);
            self.patch_status(
                "record the lease of",
                json!({ "metadata": { "annotations": annotations } }),
            )
            .await?;
        }
        Ok(Lease {
            subnet,
            ipv6_subnet,
            attributes: attributes.clone(),
        })
    }

    fn leases(&self) -> watch::Receiver<Option<Arc<Leases>>> {
        self.leases.clone()
    }

    async fn announce_ready(&self) -> Result<(), StoreError> {
        if !self.announces {
            return Ok(());
        }
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "FlannelIsUp",
            "message": "Flannel is running on this node",
            "lastTransitionTime": now,
            "lastHeartbeatTime": now,
        });
        self.patch_status(
            "announce the network of",
            json!({ "status": { "conditions": [condition] } }),
        )
        .await
    }
}

/// Follows the nodes for ever.
async fn follow(
    api: Api<NodeView>,
    mut view: View,
    leases: watch::Sender<Option<Arc<Leases>>>,
    own: watch::Sender<Option<OwnNode>>,
) {
    let mut changes = knode_client::watch(api, WatchConfig::default());
    while let Some(change) = changes.next().await {
        match change {
            Ok(change) => {
                if view.apply(change) {
                    own.send_if_modified(|seen| replace(seen, view.own().cloned()));
                    let now = Some(Arc::new(view.leases()));
                    leases.send_if_modified(|seen| replace(seen, now));
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the watch of the nodes was interrupted"
                );
            }
        }
    }
}

fn replace<T: PartialEq>(seen: &mut T, now: T) -> bool {
    let changed = *seen != now;
    *seen = now;
    changed
}
