//! The network's part of a node's start: overlay, policies, proxy and DNS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use ipnet::IpNet;
use knode_client::{Client, Connected};
use knode_overlay::{KubernetesLeases, NetConf, Overlay, Wish};
use knode_podnet::Subnet;
use knode_policy::Announcements;
use knode_proxy::table::{Locality, TableConfig};
use knode_proxy::{ProxyConfig, ProxyOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::{
    KubeletSettings, PROXY_HEALTH_PORT, PROXY_METRICS_PORT, Plan, Ranges, flannel, policy, services,
};
use crate::dns;
use crate::dual::Dual;
use crate::engine::ended;
use crate::fast_path;
use crate::rbac;
use crate::shutdown::Shutdown;

impl Plan<'_> {
    /// Looks in the background whether the node's own identity is enough for its proxy, overlay and policies.
    fn ask_for_rights(&self, client: &Client) {
        if self.proxy_kubeconfig.is_none()
            && let Some(bootstrap) = self.bootstrap_kubeconfig.clone()
        {
            let (client, policies) = (client.clone(), self.policy.network_policy);
            tokio::spawn(async move { rbac::grant(&client, &bootstrap, policies).await });
        }
    }

    /// Who the proxy and the overlay are: another identity if one is named, else the node.
    fn network_client(&self, node: &Connected) -> anyhow::Result<Client> {
        let Some(path) = &self.proxy_kubeconfig else {
            return Ok(node.client.clone());
        };
        let connected = knode_client::from_kubeconfig(path);
        Ok(connected
            .with_context(|| format!("use --proxy-kubeconfig {}", path.display()))?
            .client)
    }

    fn net_conf(pods: Dual<IpNet>) -> anyhow::Result<NetConf> {
        let ipv4 = pods.v4().context("pods have no IPv4 addresses")?;
        let conf = NetConf::vxlan(ipv4);
        Ok(match pods.v6() {
            Some(ipv6) => conf.with_ipv6(ipv6),
            None => conf,
        })
    }

    /// Starts what connects pods and services, in this process or as a process of its own. Gives what changes with the
    /// node's part of the pods' addresses.
    pub(super) async fn start_network(
        &self,
        node: &Connected,
        settings: &mut KubeletSettings,
        subnet: watch::Sender<Option<Subnet>>,
        announcements: Announcements,
        tasks: &mut JoinSet<String>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<watch::Receiver<Option<Subnet>>> {
        let Some(ranges) = self.ranges else {
            let seen = subnet.subscribe();
            tasks.spawn(flannel::follow(self.layout.subnet_file(), subnet));
            self.spawn_dns(node, node.client.clone(), settings, tasks, shutdown);
            return Ok(seen);
        };
        let client = self.network_client(node)?;
        self.ask_for_rights(&client);
        let seen = self.start_overlay(ranges, client.clone(), subnet, tasks)?;
        policy::start(
            self.policy,
            client.clone(),
            &self.name,
            announcements,
            tasks,
            shutdown,
        );
        self.start_proxy(ranges, client.clone(), tasks, shutdown);
        self.start_dns(ranges, node, client, settings, tasks, shutdown)
            .await;
        Ok(seen)
    }

    /// Starts the overlay; what it says of the subnet goes to the pod network, and wakes the node's status.
    fn start_overlay(
        &self,
        ranges: Ranges,
        client: Client,
        subnet: watch::Sender<Option<Subnet>>,
        tasks: &mut JoinSet<String>,
    ) -> anyhow::Result<watch::Receiver<Option<Subnet>>> {
        let config = knode_overlay::Config {
            conf: Self::net_conf(ranges.pods)?,
            wish: Wish {
                node_ip: self.ips.v4(),
                public_ipv6: self.ips.v6(),
                ..Wish::default()
            },
            masquerade: true,
            subnet_file: self.layout.subnet_file(),
        };
        let store = Arc::new(KubernetesLeases::start(client, self.name.clone()));
        let overlay = Overlay::open(config, store).context("open the overlay")?;
        let overlay_subnet = overlay.subnet();
        let services = ranges.services.iter().collect();
        let seen = subnet.subscribe();
        let has_subnet = overlay.subnet();
        tasks.spawn(async move { ended("overlay", overlay.run().await) });
        tasks.spawn(async move { match fast_path::run(has_subnet).await {} });
        tasks.spawn(tell_subnet(overlay_subnet, subnet));
        services::spawn_routes(services, seen.clone(), tasks);
        Ok(seen)
    }

    fn start_proxy(&self, ranges: Ranges, client: Client, tasks: &mut JoinSet<String>, shutdown: &Shutdown) {
        let table = TableConfig {
            locality: Locality::Cidrs(ranges.pods.iter().collect()),
            service_cidrs: ranges.services.iter().collect(),
            ..TableConfig::default()
        };
        let config = ProxyConfig {
            client,
            node_name: self.name.clone(),
            table,
            health: Some(self.any(PROXY_HEALTH_PORT)),
            metrics: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, PROXY_METRICS_PORT))),
            options: ProxyOptions::default(),
        };
        let end = shutdown.clone();
        tasks.spawn(async move { ended("proxy", knode_proxy::run(config, end.requested()).await) });
    }

    /// Starts the cluster's DNS, and tells the kubelet where it is unless it was told otherwise.
    async fn start_dns(
        &self,
        ranges: Ranges,
        node: &Connected,
        network: Client,
        settings: &mut KubeletSettings,
        tasks: &mut JoinSet<String>,
        shutdown: &Shutdown,
    ) {
        if settings.all.cluster_dns.is_empty() {
            let file = self.layout.cluster_dns_file();
            let servers = dns::name_servers(&node.client, self.dns.cluster, &ranges.services, &file);
            settings.all.cluster_dns = servers.await;
        }
        self.spawn_dns(node, network, settings, tasks, shutdown);
    }

    /// Answers names as long as the cluster's Service for them is our control plane's.
    fn spawn_dns(
        &self,
        node: &Connected,
        network: Client,
        settings: &KubeletSettings,
        tasks: &mut JoinSet<String>,
        shutdown: &Shutdown,
    ) {
        let on = dns::OnNode {
            node: node.client.clone(),
            network,
            name: self.name.clone(),
            ips: self.ips,
            domain: settings.cluster_domain(),
            options: self.dns.options.clone(),
        };
        tasks.spawn(dns::serve(on, shutdown.clone()));
    }
}

/// Hands the overlay's subnet on to the pod network, for as long as there is an overlay.
async fn tell_subnet(
    mut overlay: watch::Receiver<Option<knode_overlay::Subnet>>,
    pods: watch::Sender<Option<Subnet>>,
) -> String {
    loop {
        let now = overlay.borrow_and_update().map(|s| Subnet {
            ipv4: Some(s.ipv4),
            ipv6: s.ipv6,
            mtu: s.mtu,
        });
        pods.send_replace(now);
        if overlay.changed().await.is_err() {
            return "the overlay ended".into();
        }
    }
}
