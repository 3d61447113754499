//! The node's lease: as long as it is renewed, the node counts as alive
//! (`k8s.io/component-helpers/apimachinery/lease`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use knode_client::{Api, ApiError, Backoff, Client, Clock, Retry, is_conflict, is_not_found};
use kube::api::PostParams;
use tokio::sync::watch;

const NAMESPACE: &str = "kube-node-lease";
const DURATION_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
const RETRY: Backoff = Backoff {
    initial: Duration::from_millis(200),
    max: Duration::from_secs(7),
    factor: 2.0,
    jitter: 0.1,
};

/// Renews the lease for ever; begins once the node is registered.
pub(crate) async fn keep(
    client: Client,
    name: String,
    mut node: watch::Receiver<Option<Arc<Node>>>,
    clock: Arc<dyn Clock>,
) {
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut retry = Retry::new(RETRY);
    let mut known: Option<Lease> = None;
    loop {
        let Some(owner) = registered(&mut node).await else {
            return;
        };
        match renew(&leases, &name, &owner, known.take(), clock.now()).await {
            Ok(lease) => {
                known = Some(lease);
                retry.succeeded();
                clock.sleep(RENEW).await;
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    node = name,
                    "lease not renewed"
                );
                clock.sleep(retry.failed()).await;
            }
        }
    }
}

/// The node, once it is there; none if nobody looks after it any more.
async fn registered(node: &mut watch::Receiver<Option<Arc<Node>>>) -> Option<Arc<Node>> {
    node.wait_for(Option::is_some).await.ok()?.clone()
}

async fn renew(
    leases: &Api<Lease>,
    name: &str,
    owner: &Node,
    known: Option<Lease>,
    now: Timestamp,
) -> Result<Lease, ApiError> {
    if let Some(known) = known {
        match leases
            .replace(name, &PostParams::default(), &renewed(known, owner, now))
            .await
        {
            Err(error) if is_conflict(&error) || is_not_found(&error) => {}
            other => return other,
        }
    }
    match leases.get(name).await {
        Ok(existing) => {
            leases
                .replace(name, &PostParams::default(), &renewed(existing, owner, now))
                .await
        }
        Err(error) if is_not_found(&error) => {
            leases
                .create(&PostParams::default(), &renewed(empty(name), owner, now))
                .await
        }
        Err(error) => Err(error),
    }
}

fn empty(name: &str) -> Lease {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        ..ObjectMeta::default()
    };
    Lease { metadata, spec: None }
}

/// The lease with a new time, held by this node and owned by its Node object; pure.
fn renewed(mut lease: Lease, owner: &Node, now: Timestamp) -> Lease {
    let name = owner.metadata.name.clone().unwrap_or_default();
    lease.metadata.owner_references = Some(vec![owner_reference(owner)]);
    let spec = LeaseSpec {
        holder_identity: Some(name),
        lease_duration_seconds: Some(DURATION_SECONDS),
        renew_time: Some(MicroTime(now)),
        ..lease.spec.take().unwrap_or_default()
    };
    lease.spec = Some(spec);
    lease
}

/// A reference to the node, as its lease and its CSINode carry it.
pub(crate) fn owner_reference(node: &Node) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}
