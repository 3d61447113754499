//! The node: engine, pod network, overlay, proxy and kubelet, wired together.

mod authority;
mod bandwidth;
mod cgroups;
mod choice;
mod claims;
mod commands;
pub mod config_files;
mod conflist;
mod csi;
mod devices;
mod flannel;
mod network;
mod options;
mod policy;
mod remote;
mod resources;
mod runtime;
mod services;
mod view;

pub use choice::{CniDirs, Networks, follow as follow_networks};
pub use commands::Images as ImageCommands;
pub use conflist::{collect as collect_conflists, detach_all};
pub use flannel::forget_masquerade;
pub use network::BuiltIn;
pub use options::{KubeletOptions, KubeletSettings, OptionError};
pub use policy::{PolicyOptions, teardown as remove_policies};
pub use remote::teardown as end_remote;
pub use runtime::RuntimeOptions;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use knode_client::{Client, Connected, EventRecorder, EventSource, SystemClock};
use knode_engine::net::PodNetwork;
use knode_kubelet::{ClientApi, Kubelet, KubeletConfig};
use knode_kubelet_csi::{Csi, CsiConfig};
use knode_kubelet_node::{NodeAgent, NodeConfig, NodeDeps, ensure_client};
use knode_kubelet_plugins::Handler;
use knode_linux::cgroup::{self, Cgroups};
use knode_overlay::{KubernetesLeases, NetConf, Overlay, Wish};
use knode_podnet::Subnet;
use knode_policy::Announcements;
use knode_proxy::table::{Locality, TableConfig};
use knode_proxy::{ProxyConfig, ProxyOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::control;
use crate::dns::{self, DnsWish};
use crate::dual::Dual;
use crate::engine::{self, ended};
use crate::fast_path;
use crate::layout::Layout;
use crate::lean;
use crate::preflight::{self, Obstacle};
use crate::progress::Progress;
use crate::rbac;
use crate::shutdown::Shutdown;
use crate::verify::web_image;
use crate::version;

use resources::Resources;
use runtime::Runtime;

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

    /// Starts everything; returns when all parts run, which is before the node is Ready.
    pub async fn start(&self, progress: &Progress, shutdown: &Shutdown) -> anyhow::Result<Node> {
        let mut tasks = JoinSet::new();
        let (subnet, subnet_seen) = watch::channel(None);
        let mut settings = self.kubelet.settings().context("read the kubelet's options")?;
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        let options = settings.runtime(&self.runtime)?;
        let remote = options.connect(progress).await?;
        let (runtime, announcements) = match remote {
            Some(remote) => (
                remote.clone(),
                self.start_remote(&options, remote, subnet_seen, &mut tasks)?,
            ),
            None => {
                let started = self.start_engine(subnet_seen, &mut tasks, shutdown).await?;
                progress.done("the container engine runs");
                started
            }
        };
        let watched = runtime.service.clone();
        tasks.spawn(async move { match lean::keep(watched).await {} });
        let config = self.node_config(&settings);
        let clock = Arc::new(SystemClock::default());
        progress.waiting("the node's certificate");
        let connected = ensure_client(&config, clock.clone())
            .await
            .context("get the node's certificate")?;
        progress.done("the node has its certificate");
        let kubeconfigs = [config.kubeconfig.clone(), self.layout.bootstrap_kubeconfig()];
        tasks.spawn(authority::follow(connected.client.clone(), kubeconfigs));
        let wake = match self.ranges {
            Some(ranges) => {
                let client = self.network_client(&connected)?;
                self.ask_for_rights(&client);
                let wake = self.start_overlay(ranges, client.clone(), subnet, &mut tasks)?;
                let (own, name) = (client.clone(), &self.name);
                policy::start(self.policy, own, name, announcements, &mut tasks, shutdown);
                self.start_proxy(ranges, client.clone(), &mut tasks, shutdown);
                self.start_dns(ranges, &connected, client, &mut settings, &mut tasks, shutdown)
                    .await;
                wake
            }
            None => {
                let wake = subnet.subscribe();
                tasks.spawn(flannel::follow(self.layout.subnet_file(), subnet));
                self.spawn_dns(
                    &connected,
                    connected.client.clone(),
                    &settings,
                    &mut tasks,
                    shutdown,
                );
                wake
            }
        };
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

    async fn start_engine(
        &self,
        subnet: watch::Receiver<Option<Subnet>>,
        tasks: &mut JoinSet<String>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<(Runtime, Announcements)> {
        let layout = self.layout;
        let cni = self.cni.open(layout)?;
        let networks = cni.loaded();
        let images = engine::open_images(layout, engine::registries(None))?;
        web_image::ensure(&images, &layout.engine_dir()).await?;
        engine::import_ready(&images, layout).await?;
        let plan = engine::Plan {
            layout,
            socket: layout.cri_socket(),
            images,
            cni,
            cni_conf: self.cni.conf.clone(),
            runtimes: engine::runtimes(None, layout)?,
            subnet,
        };
        let announce = |network: Arc<Networks>| {
            let (announcing, announcements) = policy::Announcing::new(network);
            (Arc::new(announcing) as Arc<dyn PodNetwork>, announcements)
        };
        let (engine, announcements) = plan.start(announce, tasks, shutdown).await?;
        let runtime = Runtime {
            service: engine.clone(),
            images: engine,
            networks: Some(networks),
        };
        Ok((runtime, announcements))
    }

    /// Connects the node with the runtime that runs its pods: what that one needs of the pod network.
    fn start_remote(
        &self,
        options: &RuntimeOptions,
        remote: Runtime,
        subnet: watch::Receiver<Option<Subnet>>,
        tasks: &mut JoinSet<String>,
    ) -> anyhow::Result<Announcements> {
        let layout = self.layout;
        if let Some(endpoint) = &options.container_runtime_endpoint {
            remote::remember(layout, endpoint)?;
            let commands = Arc::new(remote::Foreign(endpoint.clone()));
            let control = control::serve(&layout.control_socket(), commands)?;
            tasks.spawn(async move { ended("control socket", control.await) });
        }
        tasks.spawn(remote::offer_network(
            layout.clone(),
            self.cni.clone(),
            remote.service,
            subnet,
        ));
        // Nobody tells of pods' addresses: policies hold from when the API does.
        let (_, announcements) = knode_policy::announcements();
        Ok(announcements)
    }

    fn node_config(&self, settings: &KubeletSettings) -> NodeConfig {
        let layout = self.layout;
        NodeConfig {
            node_name: self.name.clone(),
            node_ips: self.ips.iter().collect(),
            labels: settings.labels.clone(),
            taints: settings.taints(),
            max_pods: settings.all.max_pods,
            reserved: settings.reservations.sum(),
            version: version::GIT_VERSION.into(),
            root_dir: layout.kubelet_dir(),
            cert_dir: layout.cert_dir(),
            kubeconfig: layout.kubelet_kubeconfig(),
            bootstrap_kubeconfig: self.bootstrap_kubeconfig.clone(),
            certificate_lifetime: self.kubelet.certificate_duration,
            client_ca: settings.client_ca(),
            listen: settings.listen(|port| self.any(port)),
            healthz: settings.healthz(),
            pod_logs_dir: settings.pod_logs_dir().unwrap_or_else(|| layout.pod_logs_dir()),
            eviction: settings.eviction.clone(),
            image_gc: settings.image_gc,
            shutdown: settings.shutdown.clone(),
            configz: settings.configz.clone(),
        }
    }

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
        let mut own = overlay.subnet();
        let services = ranges.services.iter().collect();
        let seen = subnet.subscribe();
        let has_subnet = overlay.subnet();
        tasks.spawn(async move { ended("overlay", overlay.run().await) });
        tasks.spawn(async move { match fast_path::run(has_subnet).await {} });
        tasks.spawn(async move {
            loop {
                let now = own.borrow_and_update().map(|s| Subnet {
                    ipv4: Some(s.ipv4),
                    ipv6: s.ipv6,
                    mtu: s.mtu,
                });
                subnet.send_replace(now);
                if own.changed().await.is_err() {
                    return "the overlay ended".into();
                }
            }
        });
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

    async fn start_kubelet(
        &self,
        config: NodeConfig,
        connected: Connected,
        runtime: &Runtime,
        clock: Arc<SystemClock>,
        subnet: watch::Receiver<Option<Subnet>>,
        settings: &KubeletSettings,
    ) -> anyhow::Result<Node> {
        let layout = self.layout;
        let client = connected.client.clone();
        let source = EventSource {
            component: "kubelet".into(),
            host: self.name.clone(),
        };
        let recorder = EventRecorder::start(client.clone(), source, clock.clone());
        let credentials = self.kubelet.credentials(&layout.kubelet_dir(), clock.clone());
        let credentials = credentials.context("read the credential providers")?;
        let api = Arc::new(ClientApi::start(client, &self.name, recorder.clone()));
        let drivers = Csi::new(CsiConfig {
            root: layout.kubelet_dir(),
            node_name: self.name.clone(),
            objects: api.clone(),
        });
        let node = Arc::new(view::Late::new(credentials, drivers.clone()));
        let (cri, images) = (runtime.service.clone(), runtime.images.clone());
        let cgroups = Cgroups::detect(Path::new(cgroup::DEFAULT_ROOT)).context("find the control groups")?;
        let plugins = devices::Plugins::open(layout, connected.client.clone(), &self.name, clock.clone())?;
        let cgroup_root = settings.cgroup_root().unwrap_or_else(|| layout.cgroup_root());
        let resources = Resources::open(
            &settings.all,
            &settings.eviction,
            &layout.kubelet_dir(),
            &cgroup_root,
            cgroups.version(),
        );
        let resources = resources.context("share out the machine's resources")?;
        resources.managers.add_provider(plugins.provider());
        let kubelet = KubeletConfig {
            node_name: self.name.clone(),
            node_ips: self.ips.iter().map(|ip| ip.to_string()).collect(),
            runtime: cri.clone(),
            images: images.clone(),
            root_dir: layout.kubelet_dir(),
            pod_logs_dir: config.pod_logs_dir.clone(),
            container_logs_dir: layout.container_logs_dir(),
            cluster_dns: settings.cluster_dns(),
            cluster_domain: settings.cluster_domain(),
            resolv_conf: settings.all.resolv_conf.clone().into(),
            cgroup_root,
            cgroups: Arc::new(cgroups::Kernel(cgroups.clone())),
            rules: resources.rules.clone(),
            log_rotation: settings.logs,
            static_pods: settings.static_pods(),
            api,
            devices: Arc::new(plugins.clone()),
            node: node.clone(),
            clock: clock.clone(),
        };
        let kubelet = Arc::new(Kubelet::start(kubelet).await.context("start the kubelet")?);
        let pods = Arc::new(view::Pods(kubelet.clone()));
        let mut tasks = JoinSet::new();
        resources.enforce(cgroups, &self.name, recorder.clone(), clock.clone(), &mut tasks);
        let deps = NodeDeps {
            runtime: cri,
            images,
            pods,
            devices: Arc::new(plugins.clone()),
            recorder: Some(recorder),
            clock,
        };
        let agent = NodeAgent::start(config, connected, deps)
            .await
            .context("start the node's API")?;
        node.fill(&agent);
        let drivers: Arc<dyn Handler> = Arc::new(csi::Plugins(drivers));
        plugins.serve(&kubelet, resources.managers.clone(), vec![drivers], &mut tasks)?;
        view::spawn_wake(&agent, plugins.changes(), &mut tasks);
        view::spawn_wake(&agent, subnet, &mut tasks);
        Ok(Node {
            tasks,
            agent,
            kubelet,
        })
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
