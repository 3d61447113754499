//! The node: engine, pod network, overlay, proxy and kubelet, wired together.

mod authority;
mod bandwidth;
mod cgroups;
mod choice;
mod claims;
mod commands;
pub mod config_files;
mod conflist;
mod counted;
mod csi;
mod devices;
mod flannel;
mod manifests;
mod network;
mod options;
mod policy;
mod remote;
mod resources;
mod runtime;
mod services;
mod start;
mod view;

pub use cgroups::{places as cgroup_places, remove as remove_cgroup};
pub use choice::{CniDirs, Networks, follow as follow_networks};
pub use commands::Images as ImageCommands;
pub use conflist::{collect as collect_conflists, detach_all};
pub use flannel::forget_masquerade;
pub use network::BuiltIn;
pub use options::{KubeletOptions, KubeletSettings, OptionError};
pub use policy::{PolicyOptions, teardown as remove_policies};
pub use remote::teardown as end_remote;
pub use resources::pods_cgroup;
pub use runtime::RuntimeOptions;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use knode_kubelet::Kubelet;
use knode_kubelet_node::NodeAgent;
use tokio::task::JoinSet;

use crate::dns::DnsWish;
use crate::dual::Dual;
use crate::layout::Layout;
use crate::preflight::{self, Obstacle};
use crate::progress::Progress;

const PROXY_HEALTH_PORT: u16 = 10256;
const PROXY_METRICS_PORT: u16 = 10249;

/// What the node is to be.
pub struct Plan<'a> {
    pub layout: &'a Layout,
    pub name: String,
    pub ips: Dual<IpAddr>,
    /// The credential for the first certificate.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    pub kubelet: KubeletOptions,
    pub runtime: RuntimeOptions,
    pub cni: CniDirs,
    pub policy: PolicyOptions,
    pub dns: DnsWish,
    pub proxy_kubeconfig: Option<PathBuf>,
    /// What the overlay and the proxy need. None: they are processes of their own, and the subnet is in the subnet file.
    pub ranges: Option<Ranges>,
}

/// The cluster's addresses.
#[derive(Clone, Copy, Debug)]
pub struct Ranges {
    pub pods: Dual<IpNet>,
    pub services: Dual<IpNet>,
}

/// A node that runs.
pub struct Node {
    tasks: JoinSet<String>,
    agent: NodeAgent,
    /// Kept: dropping it ends the pod workers.
    kubelet: Arc<Kubelet>,
}

impl Plan<'_> {
    /// Refuses what can't work, before anything is made.
    pub fn check(&self) -> Result<(), Obstacle> {
        let settings = self.kubelet.settings()?;
        settings.runtime(&self.runtime)?;
        settings.check_resources()?;
        preflight::port(settings.listen(|port| self.any(port)), "kubelet")?;
        if let Some(address) = settings.healthz() {
            preflight::port(address, "kubelet's health")?;
        }
        let Some(ranges) = self.ranges else {
            return Ok(());
        };
        preflight::ranges(&ranges.pods, &ranges.services)?;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        preflight::port(self.any(PROXY_HEALTH_PORT), "proxy's health")?;
        preflight::port(local(PROXY_METRICS_PORT), "proxy's metrics")
    }

    /// All addresses of the machine: those of both families if it has both.
    fn any(&self, port: u16) -> SocketAddr {
        match self.ips.v6() {
            Some(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            None => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        }
    }
}

impl Node {
    /// Waits until the Node object says Ready, telling what it waits for.
    pub async fn ready(&self, progress: &Progress, bound: Duration) -> anyhow::Result<()> {
        let mut node = self.agent.node();
        let wait = async {
            loop {
                match view::readiness(node.borrow_and_update().as_deref()) {
                    Ok(()) => return Ok(()),
                    Err(why) => progress.waiting(why),
                }
                node.changed().await.context("the node's API ended")?;
            }
        };
        tokio::time::timeout(bound, wait)
            .await
            .with_context(|| format!("the node is not Ready within {bound:?}"))?
    }

    /// Resolves when a part ends by itself, which none should.
    pub async fn broken(&mut self) -> String {
        tokio::select! {
            part = self.tasks.join_next() => match part {
                Some(Ok(how)) => how,
                Some(Err(error)) => format!("a part of the node ended badly: {error}"),
                None => std::future::pending().await,
            },
            () = self.agent.ended() => "the node's API ended".into(),
        }
    }

    /// Lets go of the pods, which go on running.
    pub fn release(self) {
        drop(self.kubelet);
    }
}
