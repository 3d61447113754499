//! Network policies: enforced for this node's pods, or not at all.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use knode_client::Client;
use knode_engine::net::{NetError, NetRequest, NetResult, NetStatus, PodNetwork};
use knode_policy::{Announcements, Announcer, PolicyConfig};
use tokio::task::JoinSet;

use crate::engine::ended;
use crate::shutdown::Shutdown;

/// What is to become of network policies.
#[derive(Args, Clone, Copy, Debug)]
pub struct PolicyOptions {
    /// Enforce NetworkPolicies for the pods of this node. Say false where another agent of the cluster does that.
    #[arg(
        long,
        value_name = "true|false",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    pub network_policy: bool,
}

impl Default for PolicyOptions {
    fn default() -> Self {
        Self { network_policy: true }
    }
}

/// How long a pod waits for its policies before its containers start without them.
const PATIENCE: Duration = Duration::from_millis(500);

/// A pod network that tells of the addresses it gives, so that policies hold before a container runs.
pub struct Announcing {
    inner: Arc<dyn PodNetwork>,
    announcer: Announcer,
}

impl Announcing {
    /// The network, and what is to be told to [`start`].
    pub fn new(inner: Arc<dyn PodNetwork>) -> (Self, Announcements) {
        let (announcer, announcements) = knode_policy::announcements();
        (Self { inner, announcer }, announcements)
    }
}

#[async_trait]
impl PodNetwork for Announcing {
    async fn add(&self, request: &NetRequest) -> Result<NetResult, NetError> {
        let result = self.inner.add(request).await?;
        let (namespace, name) = (&request.namespace, &request.name);
        let told = self.announcer.pod_has(namespace, name, result.ips.clone());
        if tokio::time::timeout(PATIENCE, told).await.is_err() {
            tracing::warn!(%namespace, %name, "the pod starts before its network policies are enforced");
        }
        Ok(result)
    }

    async fn remove(&self, request: &NetRequest) -> Result<(), NetError> {
        self.inner.remove(request).await
    }

    async fn status(&self) -> NetStatus {
        self.inner.status().await
    }

    async fn pod_cidr(&self, cidr: &str) {
        self.inner.pod_cidr(cidr).await;
    }
}

/// Starts to enforce policies; where they are not to be, takes away what an earlier run has left.
pub fn start(
    options: PolicyOptions,
    client: Client,
    node_name: &str,
    announcements: Announcements,
    tasks: &mut JoinSet<String>,
    shutdown: &Shutdown,
) {
    if !options.network_policy {
        for error in teardown() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot remove the rules of network policies"
            );
        }
        return;
    }
    let config = PolicyConfig {
        client,
        node_name: node_name.to_owned(),
        table: knode_policy::table::NAME.to_owned(),
        announcements,
    };
    let end = shutdown.clone();
    tasks.spawn(async move {
        ended(
            "network policies",
            knode_policy::run(config, end.requested()).await,
        )
    });
}

/// Removes the rules; those that are not there are fine.
pub fn teardown() -> Vec<knode_nft::Error> {
    knode_policy::teardown(knode_policy::table::NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        policy: PolicyOptions,
    }

    #[test]
    fn policies_are_enforced_unless_told_otherwise() {
        let read = |options: &[&str]| {
            let line = Line::try_parse_from([&["knode"], options].concat());
            line.map(|line| line.policy.network_policy).ok()
        };
        assert_eq!(read(&[]), Some(PolicyOptions::default().network_policy));
        assert_eq!(read(&["--network-policy"]), Some(true));
        assert_eq!(read(&["--network-policy=true"]), Some(true));
        assert_eq!(read(&["--network-policy=false"]), Some(false));
        assert_eq!(read(&["--network-policy=maybe"]), None);
    }
}
