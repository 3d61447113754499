//! The node: engine, pod network, overlay, proxy and kubelet, wired together.

mod bandwidth;
mod cgroups;
mod choice;
mod commands;
mod conflist;
mod network;
mod options;
mod policy;
mod services;
mod view;

pub use choice::{CniDirs, Networks, follow as follow_networks};
pub use commands::Images as ImageCommands;
pub use conflist::{collect as collect_conflists, detach_all};
pub use network::BuiltIn;
pub use options::{KubeletOptions, OptionError};
pub use policy::{PolicyOptions, teardown as remove_policies};

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use knode_client::{Client, Connected, EventRecorder, EventSource, SystemClock};
use knode_cni::Cni;
use knode_cri::{ImageService, RuntimeService};
use knode_engine::{Engine, EngineConfig};
use knode_images::{ImageStore, Registries, StoreConfig};
use knode_kubelet::{ClientApi, Kubelet, KubeletConfig, LogRotation};
use knode_kubelet_node::{NodeAgent, NodeConfig, NodeDeps, ensure_client};
use knode_linux::cgroup::{self, Cgroups};
use knode_overlay::{KubernetesLeases, NetConf, Overlay, Wish};
use knode_podnet::{PodNet, Subnet};
use knode_policy::Announcements;
use knode_proxy::table::{Locality, TableConfig};
use knode_proxy::{ProxyConfig, ProxyOptions};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::control;
use crate::dual::Dual;
use crate::layout::Layout;
use crate::preflight::{self, Obstacle};
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::verify::web_image;
use crate::version;

use options::KubeletSettings;

const KUBELET_PORT: u16 = 10250;
const HEALTHZ_PORT: u16 = 10248;
const PROXY_HEALTH_PORT: u16 = 10256;
const PROXY_METRICS_PORT: u16 = 10249;
const CLUSTER_DOMAIN: &str = "cluster.local";

/// What the node is to be.
pub struct Plan<'a> {
    pub layout: &'a Layout,
    pub name: String,
    pub ips: Dual<IpAddr>,
    pub bootstrap_kubeconfig: PathBuf,
    pub kubelet: KubeletOptions,
    pub cni: CniDirs,
    pub policy: PolicyOptions,
    pub proxy_kubeconfig: Option<PathBuf>,
    pub pod_cidr: Dual<IpNet>,
    pub service_cidr: Dual<IpNet>,
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
        self.kubelet.settings()?;
        preflight::ranges(&self.pod_cidr, &self.service_cidr)?;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        preflight::port(self.any(KUBELET_PORT), "kubelet")?;
        preflight::port(local(HEALTHZ_PORT), "kubelet's health")?;
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
        let cni = self.cni.open(self.layout)?;
        let (engine, announcements) = self
            .start_engine(subnet_seen, cni.clone(), &mut tasks, shutdown)
            .await?;
        progress.done("the container engine runs");
        let settings = self.kubelet.settings().context("read the kubelet's options")?;
        let config = self.node_config(&settings);
        let clock = Arc::new(SystemClock::default());
        progress.waiting("the node's certificate");
        let connected = ensure_client(&config, clock.clone())
            .await
            .context("get the node's certificate")?;
        progress.done("the node has its certificate");
        let network_client = self.network_client(&connected)?;
        let wake = self.start_overlay(network_client.clone(), subnet, &mut tasks)?;
        policy::start(
            self.policy,
            network_client.clone(),
            &self.name,
            announcements,
            &mut tasks,
            shutdown,
        );
        self.start_proxy(network_client, &mut tasks, shutdown);
        let node = self
            .start_kubelet(config, connected, &engine, clock, wake, settings.logs)
            .await?;
        progress.done(format!("node {} registers", self.name));
        view::spawn_wake(&node.agent, cni.loaded(), &mut tasks);
        Ok(Node { tasks, ..node })
    }

    async fn start_engine(
        &self,
        subnet: watch::Receiver<Option<Subnet>>,
        cni: Cni,
        tasks: &mut JoinSet<String>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<(Arc<Engine>, Announcements)> {
        let layout = self.layout;
        let images = open_images(layout)?;
        import(&images, layout).await?;
        let (gate, given) = watch::channel(None);
        let podnet = PodNet::open(knode_podnet::Config::new(layout.podnet_dir()), given)
            .context("open the pod network")?;
        let built_in = network::BuiltIn(podnet.clone());
        let network = Arc::new(Networks::new(built_in, cni.clone(), self.cni.conf.clone()));
        let (announcing, announcements) = policy::Announcing::new(network.clone());
        let mut config = EngineConfig::new(
            layout.engine_dir(),
            layout.engine_run_dir(),
            images.clone(),
            Arc::new(announcing),
        );
        config.runtimes = crate::engine::runtimes(None, layout)?;
        let engine = Engine::open(config).await.context("open the container engine")?;
        forget_dead(&engine, &podnet, &cni).await?;
        let follow = choice::follow((*network).clone(), podnet.clone(), subnet, gate);
        tasks.spawn(async move { follow.await.to_owned() });
        tasks.spawn(async move { match cni.run().await {} });
        tasks.spawn(async move { ended("pod network", podnet.run().await) });
        let (socket, end) = (layout.cri_socket(), shutdown.clone());
        let (runtime, image_service) = (engine.clone(), engine.clone());
        tasks.spawn(async move {
            ended(
                "CRI socket",
                knode_cri::server::serve(&socket, runtime, image_service, end.requested()).await,
            )
        });
        let control = control::serve(
            &layout.control_socket(),
            Arc::new(commands::Images(images.clone())),
        )?;
        tasks.spawn(async move { ended("control socket", control.await) });
        Ok((engine, announcements))
    }

    fn node_config(&self, settings: &KubeletSettings) -> NodeConfig {
        let layout = self.layout;
        NodeConfig {
            node_name: self.name.clone(),
            node_ips: self.ips.iter().collect(),
            labels: Default::default(),
            taints: Vec::new(),
            max_pods: 110,
            version: version::GIT_VERSION.into(),
            root_dir: layout.kubelet_dir(),
            cert_dir: layout.cert_dir(),
            kubeconfig: layout.kubelet_kubeconfig(),
            bootstrap_kubeconfig: Some(self.bootstrap_kubeconfig.clone()),
            client_ca: None,
            listen: self.any(KUBELET_PORT),
            healthz: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, HEALTHZ_PORT))),
            pod_logs_dir: layout.pod_logs_dir(),
            eviction: settings.eviction.clone(),
            image_gc: settings.image_gc,
            shutdown: Default::default(),
            configz: self.configz(),
        }
    }

    fn configz(&self) -> Value {
        let mut shown = self.kubelet.configz();
        shown["kind"] = json!("KubeletConfiguration");
        shown["apiVersion"] = json!("kubelet.config.k8s.io/v1beta1");
        shown["clusterDomain"] = json!(CLUSTER_DOMAIN);
        shown["maxPods"] = json!(110);
        shown
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

    fn net_conf(&self) -> anyhow::Result<NetConf> {
        let ipv4 = self.pod_cidr.v4().context("pods have no IPv4 addresses")?;
        let conf = NetConf::vxlan(ipv4);
        Ok(match self.pod_cidr.v6() {
            Some(ipv6) => conf.with_ipv6(ipv6),
            None => conf,
        })
    }

    /// Starts the overlay; what it says of the subnet goes to the pod network, and wakes the node's status.
    fn start_overlay(
        &self,
        client: Client,
        subnet: watch::Sender<Option<Subnet>>,
        tasks: &mut JoinSet<String>,
    ) -> anyhow::Result<watch::Receiver<Option<Subnet>>> {
        let config = knode_overlay::Config {
            conf: self.net_conf()?,
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
        let services = self.service_cidr.iter().collect();
        let seen = subnet.subscribe();
        tasks.spawn(async move { ended("overlay", overlay.run().await) });
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

    fn start_proxy(&self, client: Client, tasks: &mut JoinSet<String>, shutdown: &Shutdown) {
        let table = TableConfig {
            locality: Locality::Cidrs(self.pod_cidr.iter().collect()),
            service_cidrs: self.service_cidr.iter().collect(),
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

    async fn start_kubelet(
        &self,
        config: NodeConfig,
        connected: Connected,
        engine: &Arc<Engine>,
        clock: Arc<SystemClock>,
        subnet: watch::Receiver<Option<Subnet>>,
        logs: LogRotation,
    ) -> anyhow::Result<Node> {
        let layout = self.layout;
        let client = connected.client.clone();
        let source = EventSource {
            component: "kubelet".into(),
            host: self.name.clone(),
        };
        let recorder = EventRecorder::start(client.clone(), source, clock.clone());
        let node = Arc::new(view::Late::default());
        let cri: Arc<dyn RuntimeService> = engine.clone();
        let images: Arc<dyn ImageService> = engine.clone();
        let cgroups = Cgroups::detect(Path::new(cgroup::DEFAULT_ROOT)).context("find the control groups")?;
        let kubelet = KubeletConfig {
            node_name: self.name.clone(),
            node_ips: self.ips.iter().map(|ip| ip.to_string()).collect(),
            runtime: cri.clone(),
            images: images.clone(),
            root_dir: layout.kubelet_dir(),
            pod_logs_dir: layout.pod_logs_dir(),
            container_logs_dir: layout.container_logs_dir(),
            cluster_dns: Vec::new(),
            cluster_domain: CLUSTER_DOMAIN.into(),
            resolv_conf: "/etc/resolv.conf".into(),
            cgroup_root: layout.cgroup_root(),
            cgroups: Arc::new(cgroups::Kernel(cgroups)),
            log_rotation: logs,
            static_pods: self.kubelet.static_pods(),
            api: Arc::new(ClientApi::start(client, &self.name, recorder.clone())),
            node: node.clone(),
            clock: clock.clone(),
        };
        let kubelet = Arc::new(Kubelet::start(kubelet).await.context("start the kubelet")?);
        let pods = Arc::new(view::Pods(kubelet.clone()));
        let deps = NodeDeps {
            runtime: cri,
            images,
            pods,
            recorder: Some(recorder),
            clock,
        };
        let agent = NodeAgent::start(config, connected, deps)
            .await
            .context("start the node's API")?;
        node.fill(&agent);
        let mut tasks = JoinSet::new();
        view::spawn_wake(&agent, subnet, &mut tasks);
        Ok(Node {
            tasks,
            agent,
            kubelet,
        })
    }
}

fn open_images(layout: &Layout) -> anyhow::Result<ImageStore> {
    let root = layout.engine_dir().join("images");
    ImageStore::open(StoreConfig {
        root,
        registries: Registries::default(),
    })
    .context("open the image store")
}

/// The image that the binary carries, and the archives that lie ready. A broken archive does not keep the node from
/// starting.
async fn import(images: &ImageStore, layout: &Layout) -> anyhow::Result<()> {
    web_image::ensure(images, &layout.engine_dir()).await?;
    for report in images
        .import_dir(&layout.images_dir())
        .await
        .context("import the archives")?
    {
        match &report.result {
            Ok(None) => {}
            Ok(Some(_)) => tracing::info!(archive = %report.path.display(), "archive imported"),
            Err(e) => {
                tracing::error!(archive = %report.path.display(), error = e.chain(), "archive not imported")
            }
        }
    }
    Ok(())
}

/// Takes back the addresses of sandboxes that ended while nobody looked.
async fn forget_dead(engine: &Engine, podnet: &PodNet, cni: &Cni) -> anyhow::Result<()> {
    let all = engine
        .list_pod_sandbox(Default::default())
        .await
        .context("list the sandboxes")?;
    let live: HashSet<_> = all.items.into_iter().map(|s| s.id).collect();
    conflist::collect(cni, &live).await?;
    let freed = podnet
        .gc(live)
        .await
        .context("collect the pod network's garbage")?;
    if !freed.is_empty() {
        tracing::info!(?freed, "addresses of dead sandboxes freed");
    }
    Ok(())
}

/// How a part ended, for the log.
fn ended<T, E: std::fmt::Display>(part: &str, how: Result<T, E>) -> String {
    match how {
        Ok(_) => format!("the {part} ended"),
        Err(e) => format!("the {part} failed: {e:#}"),
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
