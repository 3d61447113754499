//! The start of a node, part after part.

mod kubelet;
mod network;
mod runtime;

use std::sync::Arc;

use anyhow::Context;
use knode_client::SystemClock;
use knode_kubelet_node::ensure_client;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Node, Plan, authority, view};
use crate::lean;
use crate::progress::Progress;
use crate::shutdown::Shutdown;

impl Plan<'_> {
    /// Starts everything; returns when all parts run, which is before the node is Ready.
    pub async fn start(&self, progress: &Progress, shutdown: &Shutdown) -> anyhow::Result<Node> {
        let mut tasks = JoinSet::new();
        let (subnet, subnet_seen) = watch::channel(None);
        let mut settings = self.kubelet.settings().context("read the kubelet's options")?;
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        let options = settings.runtime(&self.runtime)?;
        let driver = settings.cgroup_driver();
        let (runtime, announcements) = self
            .start_runtime(&options, driver, subnet_seen, &mut tasks, progress, shutdown)
            .await?;
        let watched = runtime.service.clone();
        tasks.spawn(async move { match lean::keep(watched).await {} });
        let config = self.node_config(&settings, &runtime);
        let clock = Arc::new(SystemClock::default());
        progress.waiting("the node's certificate");
        let connected = ensure_client(&config, clock.clone())
            .await
            .context("get the node's certificate")?;
        progress.done("the node has its certificate");
        let kubeconfigs = [config.kubeconfig.clone(), self.layout.bootstrap_kubeconfig()];
        tasks.spawn(authority::follow(connected.client.clone(), kubeconfigs));
        let wake = self
            .start_network(
                &connected,
                &mut settings,
                subnet,
                announcements,
                &mut tasks,
                shutdown,
            )
            .await?;
        let mut node = self
            .start_kubelet(config, connected, &runtime, clock, wake, &settings)
            .await?;
        progress.done(format!("node {} registers", self.name));
        if let Some(networks) = runtime.networks {
            view::spawn_wake(&node.agent, networks, &mut tasks);
        }
        let own = std::mem::replace(&mut node.tasks, tasks);
        node.tasks.spawn(first_ended(own));
        Ok(node)
    }
}

/// How the first of these ends.
async fn first_ended(mut tasks: JoinSet<String>) -> String {
    match tasks.join_next().await {
        Some(Ok(how)) => how,
        Some(Err(error)) => format!("a part of the node ended badly: {error}"),
        None => std::future::pending().await,
    }
}
