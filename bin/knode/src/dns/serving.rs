//! A node that answers names, as long as the Service is the control plane's own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Service};
use knode_client::{Api, Backoff, Change, Client, Retry, WatchConfig, watch};
use knode_dns::{Config, Dns, Error};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch as cell;

use super::publish::now_ours;
use super::{DnsOptions, NAMESPACE, PORT, PORT_ANNOTATION, SERVICE};
use crate::dual::Dual;
use crate::shutdown::Shutdown;

/// Where a node tells what it answered.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9153);

/// What a node's DNS needs.
pub struct OnNode {
    /// The node itself, which says that it answers.
    pub node: Client,
    /// Whoever may follow Services, EndpointSlices and Namespaces.
    pub network: Client,
    /// The node's name.
    pub name: String,
    /// The addresses on which it answers.
    pub ips: Dual<IpAddr>,
    /// The cluster's domain.
    pub domain: String,
    /// Whom it asks.
    pub options: DnsOptions,
}

impl OnNode {
    fn config(&self, metrics: Option<SocketAddr>) -> Config {
        Config {
            domain: self.domain.clone(),
            listen: self.ips.iter().map(|ip| SocketAddr::new(ip, PORT)).collect(),
            servers: self.options.dns_forward.clone(),
            stubs: self.options.dns_stub.clone(),
            metrics,
            ..Config::new(self.network.clone())
        }
    }
}

/// Answers whenever the Service is ours, for ever.
pub async fn serve(on: OnNode, shutdown: Shutdown) -> String {
    let kube_dns = WatchConfig::fields(format!("metadata.name={SERVICE}"));
    let mut services = watch(
        Api::<Service>::namespaced(on.network.clone(), NAMESPACE),
        kube_dns,
    );
    let (ours, mut is_ours) = cell::channel(false);
    let follow = async {
        while let Some(change) = services.next().await {
            match change {
                Ok(change) => {
                    ours.send_replace(now_ours(change));
                }
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "watch interrupted"),
            }
        }
    };
    let answer = async {
        // The sender lives as long as this does.
        while is_ours.wait_for(|ours| *ours).await.is_ok() {
            let mut ended = is_ours.clone();
            tokio::select! {
                () = answer(&on, shutdown.clone()) => {}
                _ = ended.wait_for(|ours| !ours) => tracing::info!("kube-dns is another's now: names are not answered any more"),
            }
        }
    };
    tokio::select! { () = follow => {}, () = answer => {} }
    "the cluster's DNS ended".into()
}

async fn answer(on: &OnNode, shutdown: Shutdown) {
    let mut retry = Retry::new(Backoff::API);
    let mut metrics = Some(METRICS);
    let dns = loop {
        let error = match Dns::open(on.config(metrics)).await {
            Ok(dns) => break dns,
            Err(error) => error,
        };
        let text = knode_client::brief(&error);
        if matches!(&error, Error::Listen { address, .. } if Some(*address) == metrics) {
            tracing::warn!(error = text, "the cluster's DNS goes without metrics");
            metrics = None;
            continue;
        }
        tracing::error!(error = text, "cannot answer names; trying again");
        tokio::time::sleep(retry.failed()).await;
    };
    let mut synced = dns.synced();
    let announce = async {
        if synced.wait_for(|synced| *synced).await.is_ok() {
            announce(&on.node, &on.name).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        // The end of everything: nothing is begun again.
        () = dns.run(shutdown.requested()) => std::future::pending().await,
        () = announce => {}
    }
}

/// Says that this node answers, again whenever the Node does not show it.
async fn announce(client: &Client, name: &str) {
    let api: Api<Node> = Api::all(client.clone());
    let mut nodes = watch(api.clone(), WatchConfig::fields(format!("metadata.name={name}")));
    let wanted = PORT.to_string();
    while let Some(change) = nodes.next().await {
        let node = match change {
            Ok(Change::Applied(node)) => node,
            Ok(Change::Restarted(nodes)) => match nodes.into_iter().next() {
                Some(node) => node,
                None => continue,
            },
            Ok(Change::Deleted(_)) | Err(_) => continue,
        };
        let annotations = node.metadata.annotations.unwrap_or_default();
        if annotations.get(PORT_ANNOTATION) == Some(&wanted) {
            continue;
        }
        let patch = Patch::Merge(json!({"metadata": {"annotations": {PORT_ANNOTATION: &wanted}}}));
        // The next heartbeat brings the next try.
        if let Err(error) = api.patch(name, &PatchParams::default(), &patch).await {
            tracing::warn!(
                error = knode_client::brief(&error),
                "cannot say that this node answers names"
            );
        }
    }
}
