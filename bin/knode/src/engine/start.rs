//! An engine put together: images, pod network, CRI socket, control socket.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use knode_cni::Cni;
use knode_cri::RuntimeService;
use knode_engine::net::PodNetwork;
use knode_engine::{CgroupDriver, Engine, EngineConfig, Runtimes};
use knode_images::{ImageStore, Registries, StoreConfig};
use knode_podnet::{PodNet, Subnet};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::control;
use crate::layout::Layout;
use crate::node::{BuiltIn, ImageCommands, Networks, collect_conflists, follow_networks};
use crate::shutdown::Shutdown;

/// Where containerd's users keep how registries are reached.
const USUAL_REGISTRIES: &str = "/etc/containerd/certs.d";

/// What an engine is made of.
pub struct Plan<'a> {
    pub layout: &'a Layout,
    /// Where CRI is served.
    pub socket: PathBuf,
    pub images: ImageStore,
    /// Other people's network plugins, and the directory that decides whether they are used.
    pub cni: Cni,
    pub cni_conf: Option<PathBuf>,
    pub runtimes: Runtimes,
    /// Who makes control groups.
    pub cgroup_driver: CgroupDriver,
    /// Label containers where the kernel has SELinux.
    pub selinux: bool,
    /// The addresses of the built-in pod network, once they are known.
    pub subnet: watch::Receiver<Option<Subnet>>,
}

impl Plan<'_> {
    /// Starts it; its parts are tasks, none of which should end. `wrap` puts what it likes around the pod network. When
    /// this returns the socket takes connections.
    pub async fn start<T>(
        self,
        wrap: impl FnOnce(Arc<Networks>) -> (Arc<dyn PodNetwork>, T),
        tasks: &mut JoinSet<String>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<(Arc<Engine>, T)> {
        let (gate, given) = watch::channel(None);
        let podnet = PodNet::open(knode_podnet::Config::new(self.layout.podnet_dir()), given)
            .context("open the pod network")?;
        let network = Arc::new(Networks::new(
            BuiltIn(podnet.clone()),
            self.cni.clone(),
            self.cni_conf.clone(),
        ));
        let (wrapped, rest) = wrap(network.clone());
        let mut config = EngineConfig::new(
            self.layout.engine_dir(),
            self.layout.engine_run_dir(),
            self.images.clone(),
            wrapped,
        );
        config.runtimes = self.runtimes;
        config.cgroup_driver = self.cgroup_driver;
        config.selinux = self.selinux;
        let engine = Engine::open(config).await.context("open the container engine")?;
        forget_dead(&engine, &podnet, &self.cni).await?;
        let follow = follow_networks((*network).clone(), podnet.clone(), self.subnet, gate);
        tasks.spawn(async move { follow.await.to_owned() });
        let cni = self.cni;
        tasks.spawn(async move { match cni.run().await {} });
        tasks.spawn(async move { ended("pod network", podnet.run().await) });
        serve(&self.socket, &engine, tasks, shutdown).await?;
        let commands = Arc::new(ImageCommands(self.images));
        let control = control::serve(&self.layout.control_socket(), commands)?;
        tasks.spawn(async move { ended("control socket", control.await) });
        Ok((engine, rest))
    }
}

async fn serve(
    socket: &Path,
    engine: &Arc<Engine>,
    tasks: &mut JoinSet<String>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let listening = knode_cri::server::listen(socket).await?;
    let (runtime, images, end) = (engine.clone(), engine.clone(), shutdown.clone());
    tasks.spawn(async move {
        ended(
            "CRI socket",
            listening.serve(runtime, images, end.requested()).await,
        )
    });
    Ok(())
}

/// How registries are reached: by the directory that is given, or by the usual one where it is there.
pub fn registries(given: Option<PathBuf>) -> Registries {
    let usual = Path::new(USUAL_REGISTRIES);
    Registries {
        certs_dir: given.or_else(|| usual.is_dir().then(|| usual.to_owned())),
        ..Registries::default()
    }
}

/// Opens the store of images.
pub fn open_images(layout: &Layout, registries: Registries) -> anyhow::Result<ImageStore> {
    let root = layout.engine_dir().join("images");
    ImageStore::open(StoreConfig { root, registries }).context("open the image store")
}

/// Imports the archives that lie ready. A broken one does not keep the engine from starting.
pub async fn import_ready(images: &ImageStore, layout: &Layout) -> anyhow::Result<()> {
    let reports = images.import_dir(&layout.images_dir()).await;
    for report in reports.context("import the archives")? {
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
    collect_conflists(cni, &live).await?;
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
pub fn ended<T, E: std::fmt::Display>(part: &str, how: Result<T, E>) -> String {
    match how {
        Ok(_) => format!("the {part} ended"),
        Err(e) => format!("the {part} failed: {e:#}"),
    }
}
