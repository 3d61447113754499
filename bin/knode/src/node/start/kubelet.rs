//! The kubelet's part of a node's start: its pods, its resources and the node's API.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use knode_client::{Connected, EventRecorder, EventSource, SystemClock};
use knode_kubelet::{ClientApi, Kubelet, KubeletConfig, SecurityModules};
use knode_kubelet_csi::{Csi, CsiConfig};
use knode_kubelet_metrics::Metrics;
use knode_kubelet_node::{NodeAgent, NodeConfig, NodeDeps};
use knode_kubelet_plugins::Handler;
use knode_linux::cgroup::{self, Cgroups};
use knode_podnet::Subnet;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::cgroups::Groups;
use super::super::devices::Plugins;
use super::super::resources::Resources;
use super::super::runtime::Runtime;
use super::super::{KubeletSettings, Node, Plan, cgroups, counted, csi, manifests, view};
use crate::version;

/// What pods' and node's side of the kubelet share.
struct Parts {
    api: Arc<ClientApi>,
    recorder: EventRecorder,
    drivers: Arc<Csi>,
    view: Arc<view::Late>,
    plugins: Plugins,
    cgroups: Groups,
    cgroup_root: String,
    resources: Resources,
    metrics: Arc<Metrics>,
    clock: Arc<SystemClock>,
}

impl Plan<'_> {
    /// The group below which all of the node's are.
    fn cgroup_root(&self, settings: &KubeletSettings) -> String {
        let own = || self.layout.cgroup_root();
        settings.cgroup_root().unwrap_or_else(own)
    }

    /// What the node's side of the kubelet is told.
    pub(super) fn node_config(&self, settings: &KubeletSettings, runtime: &Runtime) -> NodeConfig {
        let layout = self.layout;
        let pods_cgroup = settings.reservations.pods_cgroup(&self.cgroup_root(settings));
        let place = |group: String| cgroups::path(runtime.cgroup_driver, &group).into();
        NodeConfig {
            node_name: self.name.clone(),
            node_ips: self.ips.iter().collect(),
            labels: settings.labels.clone(),
            taints: settings.taints(),
            max_pods: settings.all.max_pods,
            pods_per_core: settings.all.pods_per_core,
            max_images: usize::try_from(settings.all.node_status_max_images).ok(),
            reserved: settings.reservations.sum(),
            version: version::GIT_VERSION.into(),
            root_dir: layout.kubelet_dir(),
            cert_dir: layout.cert_dir(),
            kubeconfig: layout.kubelet_kubeconfig(),
            bootstrap_kubeconfig: self.bootstrap_kubeconfig.clone(),
            certificate_lifetime: self.kubelet.certificate_duration,
            client_ca: settings.client_ca(),
            tls: settings.tls(),
            listen: settings.listen(|port| self.any(port)),
            healthz: settings.healthz(),
            pod_logs_dir: settings.pod_logs_dir().unwrap_or_else(|| layout.pod_logs_dir()),
            pods_cgroup: pods_cgroup.map(place),
            eviction: settings.eviction.clone(),
            image_gc: settings.image_gc,
            shutdown: settings.shutdown.clone(),
            configz: settings.configz.clone(),
            system_logs: settings.all.enable_system_log_handler,
            flags: settings.flags.clone(),
        }
    }

    /// Starts the kubelet: its pods' side first, so that the node's side can tell of pods from the beginning.
    pub(super) async fn start_kubelet(
        &self,
        config: NodeConfig,
        connected: Connected,
        runtime: &Runtime,
        clock: Arc<SystemClock>,
        subnet: watch::Receiver<Option<Subnet>>,
        settings: &KubeletSettings,
    ) -> anyhow::Result<Node> {
        let parts = self.kubelet_parts(&connected, clock, settings, runtime)?;
        let runtime = &runtime.clone().counted(&parts.metrics);
        connected.observe(Arc::new(counted::Requests(parts.metrics.clone())));
        let pods_side = KubeletConfig {
            fetched_pods: manifests::fetched(&settings.all).context("fetch static pods")?,
            ..self.kubelet_config(&config, runtime, settings, &parts)
        };
        let kubelet = Arc::new(Kubelet::start(pods_side).await.context("start the kubelet")?);
        let mut tasks = JoinSet::new();
        parts.resources.enforce(
            parts.cgroups,
            &self.name,
            parts.recorder.clone(),
            parts.clock.clone(),
            &mut tasks,
        );
        let deps = NodeDeps {
            runtime: runtime.service.clone(),
            images: runtime.images.clone(),
            pods: Arc::new(view::Pods(kubelet.clone())),
            devices: Arc::new(parts.plugins.clone()),
            recorder: Some(parts.recorder),
            metrics: parts.metrics,
            clock: parts.clock,
        };
        let agent = NodeAgent::start(config, connected, deps)
            .await
            .context("start the node's API")?;
        parts.view.fill(&agent);
        let (plugins, managers) = (parts.plugins, parts.resources.managers);
        let drivers: Arc<dyn Handler> = Arc::new(csi::Plugins(parts.drivers));
        plugins.serve(&kubelet, managers, vec![drivers], &mut tasks)?;
        view::spawn_wake(&agent, plugins.changes(), &mut tasks);
        view::spawn_wake(&agent, subnet, &mut tasks);
        Ok(Node {
            tasks,
            agent,
            kubelet,
        })
    }

    /// Opens what both sides use; nothing of it acts yet.
    fn kubelet_parts(
        &self,
        connected: &Connected,
        clock: Arc<SystemClock>,
        settings: &KubeletSettings,
        runtime: &Runtime,
    ) -> anyhow::Result<Parts> {
        let layout = self.layout;
        let client = connected.client.clone();
        let source = EventSource {
            component: "kubelet".into(),
            host: self.name.clone(),
        };
        let recorder = EventRecorder::start(client.clone(), source, clock.clone());
        let credentials = self.kubelet.credentials(&layout.kubelet_dir(), clock.clone());
        let credentials = credentials.context("read the credential providers")?;
        let api = Arc::new(ClientApi::start(client.clone(), &self.name, recorder.clone()));
        let drivers = Csi::new(CsiConfig {
            root: layout.kubelet_dir(),
            node_name: self.name.clone(),
            objects: api.clone(),
        });
        let view = Arc::new(view::Late::new(credentials, drivers.clone()));
        let cgroups = Cgroups::detect(Path::new(cgroup::DEFAULT_ROOT)).context("find the control groups")?;
        let plugins = Plugins::open(layout, client, &self.name, clock.clone())?;
        let cgroup_root = self.cgroup_root(settings);
        let resources = Resources::open(
            &settings.all,
            &settings.eviction,
            &layout.kubelet_dir(),
            &cgroup_root,
            cgroups.version(),
        );
        let resources = resources.context("share out the machine's resources")?;
        resources.managers.add_provider(plugins.provider());
        let cgroups = Groups::new(runtime.cgroup_driver, cgroups);
        Ok(Parts {
            api,
            recorder,
            drivers,
            view,
            plugins,
            cgroups,
            cgroup_root,
            resources,
            metrics: Arc::default(),
            clock,
        })
    }

    /// What the pods' side of the kubelet is told.
    fn kubelet_config(
        &self,
        node: &NodeConfig,
        runtime: &Runtime,
        settings: &KubeletSettings,
        parts: &Parts,
    ) -> KubeletConfig {
        let layout = self.layout;
        KubeletConfig {
            node_name: self.name.clone(),
            node_ips: self.ips.iter().map(|ip| ip.to_string()).collect(),
            runtime: runtime.service.clone(),
            images: runtime.images.clone(),
            root_dir: layout.kubelet_dir(),
            pod_logs_dir: node.pod_logs_dir.clone(),
            container_logs_dir: layout.container_logs_dir(),
            cluster_dns: settings.cluster_dns(),
            cluster_domain: settings.cluster_domain(),
            resolv_conf: settings.all.resolv_conf.clone().into(),
            cgroup_root: parts.cgroup_root.clone(),
            cgroups: Arc::new(parts.cgroups.clone()),
            rules: parts.resources.rules.clone(),
            image_pulls: settings.all.image_pulls(),
            pull_verification: settings.pull_verification.clone(),
            log_rotation: settings.logs,
            static_pods: settings.static_pods(),
            fetched_pods: None,
            api: parts.api.clone(),
            devices: Arc::new(parts.plugins.clone()),
            node: parts.view.clone(),
            metrics: parts.metrics.clone(),
            modules: security_modules(),
            clock: parts.clock.clone(),
        }
    }
}

/// What the kernel that runs enforces, as upstream looks for it.
fn security_modules() -> SecurityModules {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    SecurityModules {
        apparmor: Path::new("/sys/kernel/security/apparmor").exists()
            && enabled.is_ok_and(|text| text.starts_with('Y')),
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
    }
}
