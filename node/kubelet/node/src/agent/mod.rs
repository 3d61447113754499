//! Everything that runs as long as the node does.

mod follow;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference};
use knode_client::{Client, Clock, Connected, EventRecorder};
use knode_cri::{ImageService, RuntimeService};
use knode_kubelet_metrics::Metrics;
use knode_pki::{Certificate, Identity, Subject, SubjectAltNames};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::follow::{NodeFollower, Outlets};
use crate::bootstrap::{CLIENT_PREFIX, node_subject};
use crate::certificate::{
    CLIENT_SIGNER, CertificateStore, ClientCa, Manager, SERVING_SIGNER, ServingCertificate, Template,
    self_signed,
};
use crate::config::{DeviceCounts, NodeConfig};
use crate::eviction::EvictionManager;
use crate::garbage::ImageGc;
use crate::pods::PodSource;
use crate::server::{self, Certificates, Kubelet};
use crate::shutdown::ShutdownManager;
use crate::{Result, lease};

const SERVER_PREFIX: &str = "kubelet-server";

/// What the agent works with.
#[derive(Clone)]
pub struct NodeDeps {
    /// The container runtime.
    pub runtime: Arc<dyn RuntimeService>,
    /// Its images.
    pub images: Arc<dyn ImageService>,
    /// The pods of this node.
    pub pods: Arc<dyn PodSource>,
    /// Counts devices that plugins offer.
    pub devices: Arc<dyn DeviceCounts>,
    /// Reports events; none are reported without.
    pub recorder: Option<EventRecorder>,
    /// Where is counted what happens.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The node's side of the kubelet, running. Dropping it ends all of it.
#[derive(Debug)]
pub struct NodeAgent {
    node: watch::Receiver<Option<Arc<Node>>>,
    wake: Arc<Notify>,
    shutting_down: watch::Receiver<bool>,
    tasks: JoinSet<()>,
}

impl NodeAgent {
    /// Opens the ports and starts everything: registration and status, lease, certificates, servers.
    ///
    /// # Errors
    /// [`Error::PortTaken`] and others of the ports, [`Error::Credentials`], [`Error::Machine`].
    pub async fn start(config: NodeConfig, connected: Connected, deps: NodeDeps) -> Result<Self> {
        let mut tasks = JoinSet::new();
        let listener = server::bind(config.listen).await?;
        if let Some(address) = config.healthz {
            tasks.spawn(server::serve_healthz(server::bind(address).await?));
        }
        let serving = start_serving_certificate(&config, &connected, &deps, &mut tasks)?;
        start_client_rotation(&config, &connected, &deps, &mut tasks);
        let kubelet = kubelet(&config, &connected.client, &deps);
        let (clients, tls) = ClientCa::start(&config, serving)?;
        tasks.spawn(clients.follow());
        tasks.spawn(server::serve_https(listener, tls, kubelet));
        if let Some(recorder) = &deps.recorder {
            recorder.normal(node_reference(&config.node_name), "Starting", "Starting kubelet.");
        }
        let (sender, node) = watch::channel(None);
        let wake = Arc::new(Notify::new());
        let name = config.node_name.clone();
        tasks.spawn(lease::keep(
            connected.client.clone(),
            name,
            node.clone(),
            deps.clock.clone(),
        ));
        let images = Arc::new(ImageGc::new(config.image_gc, &config.node_name, deps.clone()));
        tasks.spawn(images.clone().run());
        let manager = EvictionManager::new(config.clone(), deps.clone(), images)?;
        let pressure = manager.pressure();
        tasks.spawn(manager.run());
        let (down, shutting_down) = watch::channel(false);
        let outlets = Outlets {
            published: sender,
            wake: wake.clone(),
            pressure,
            shutting_down: shutting_down.clone(),
        };
        if !config.shutdown.grace.is_off() {
            let manager = ShutdownManager {
                config: config.shutdown.clone(),
                pods: deps.pods.clone(),
                clock: deps.clock.clone(),
                down,
                wake: wake.clone(),
            };
            tasks.spawn(manager.run());
        }
        let follower = NodeFollower::new(config, connected.client, deps, outlets)?;
        tasks.spawn(follower.run());
        Ok(Self {
            node,
            wake,
            shutting_down,
            tasks,
        })
    }

    /// Whether the machine shuts down, so that the node takes no more pods.
    pub fn shutting_down(&self) -> watch::Receiver<bool> {
        self.shutting_down.clone()
    }

    /// The Node object as last seen; none until it is registered.
    pub fn node(&self) -> watch::Receiver<Option<Arc<Node>>> {
        self.node.clone()
    }

    /// Looks at the runtime's state now instead of at the next beat: its readiness may have changed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// As [`NodeAgent::wake`], for those who don't hold the agent: notify it.
    pub fn waker(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Waits until one of the parts ends, which none does by itself.
    pub async fn ended(&mut self) {
        // A part that panicked is an end too.
        let _ = self.tasks.join_next().await;
    }
}

/// A reference to the node as its events carry it.
pub(crate) fn node_reference(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        api_version: Some("v1".to_owned()),
        ..ObjectReference::default()
    }
}

fn kubelet(config: &NodeConfig, client: &Client, deps: &NodeDeps) -> Arc<Kubelet> {
    Arc::new(Kubelet {
        node_name: config.node_name.clone(),
        pods: deps.pods.clone(),
        runtime: deps.runtime.clone(),
        images: deps.images.clone(),
        root_dir: config.root_dir.clone(),
        pods_cgroup: config.pods_cgroup.clone(),
        pod_logs_dir: config.pod_logs_dir.clone(),
        system_logs: config.system_logs,
        volumes: Default::default(),
        claims: Default::default(),
        configz: config.configz.clone(),
        version: config.version.clone(),
        flags: config.flags.clone(),
        started: deps.clock.now(),
        auth: Kubelet::new_auth(client.clone(), &config.node_name, deps.clock.clone()),
        metrics: deps.metrics.clone(),
        certificates: Certificates {
            client: CertificateStore::new(&config.cert_dir, CLIENT_PREFIX),
            serving: CertificateStore::new(&config.cert_dir, SERVER_PREFIX),
        },
        clock: deps.clock.clone(),
    })
}

/// Counts a renewal that failed.
fn counted(deps: &NodeDeps, count: fn(&Metrics)) -> Box<dyn Fn() + Send + Sync> {
    let metrics = deps.metrics.clone();
    Box::new(move || count(&metrics))
}

fn names(config: &NodeConfig) -> SubjectAltNames {
    SubjectAltNames::new(vec![config.node_name.clone()], config.node_ips.clone())
}

fn start_serving_certificate(
    config: &NodeConfig,
    connected: &Connected,
    deps: &NodeDeps,
    tasks: &mut JoinSet<()>,
) -> Result<Arc<ServingCertificate>> {
    if let Some(given) = config.tls.certificate.clone() {
        let (serving, seen) = given.load()?;
        tasks.spawn(given.follow(serving.clone(), seen));
        return Ok(serving);
    }
    let store = CertificateStore::new(&config.cert_dir, SERVER_PREFIX);
    let now = deps.clock.now();
    let usable = |identity: &Identity| {
        Certificate::from_pem(&identity.cert_pem).is_ok_and(|found| found.is_valid_at(now))
    };
    let first = match store.current()?.filter(usable) {
        Some(identity) => identity,
        None => self_signed(&config.cert_dir, &config.node_name, &names(config), now)?,
    };
    let serving = Arc::new(ServingCertificate::new(&first)?);
    let shown = serving.clone();
    let manager = Manager {
        client: connected.client.clone(),
        recovery: None,
        lifetime: config.certificate_lifetime,
        store,
        template: Template {
            signer: SERVING_SIGNER,
            subject: node_subject(&config.node_name),
            names: names(config),
        },
        clock: deps.clock.clone(),
        failed: counted(deps, |metrics| metrics.node.server_not_renewed()),
        renewed: Box::new(move |identity| {
            if let Err(error) = shown.replace(identity) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "new serving certificate is not usable"
                );
            }
        }),
    };
    tasks.spawn(manager.run());
    Ok(serving)
}

/// Only a certificate that this node got itself is renewed: one that an administrator handed out is theirs.
fn start_client_rotation(
    config: &NodeConfig,
    connected: &Connected,
    deps: &NodeDeps,
    tasks: &mut JoinSet<()>,
) {
    let store = CertificateStore::new(&config.cert_dir, CLIENT_PREFIX);
    let (Some(identity), true) = (connected.identity.clone(), store.current_path().exists()) else {
        return;
    };
    let subject: Subject = node_subject(&config.node_name);
    let manager = Manager {
        client: connected.client.clone(),
        recovery: config.bootstrap_kubeconfig.clone(),
        lifetime: config.certificate_lifetime,
        store,
        template: Template {
            signer: CLIENT_SIGNER,
            subject,
            names: SubjectAltNames::default(),
        },
        clock: deps.clock.clone(),
        failed: counted(deps, |metrics| metrics.node.client_not_renewed()),
        renewed: Box::new(move |_| match identity.reload() {
            Ok(_) => tracing::info!("client certificate renewed"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "new client certificate is not usable"
                );
            }
        }),
    };
    tasks.spawn(manager.run());
}
