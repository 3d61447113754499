//! The container runtime's part of a node's start.

use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use knode_dbus::systemd;
use knode_engine::CgroupDriver;
use knode_engine::net::PodNetwork;
use knode_podnet::Subnet;
use knode_policy::Announcements;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::runtime::Runtime;
use super::super::{Networks, Plan, RuntimeOptions, policy, remote};
use crate::control;
use crate::engine::{self, ended};
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::verify::web_image;

impl Plan<'_> {
    /// Connects with the runtime that the options name, or starts the engine, which has its control groups made by this
    /// driver. The second of what it gives tells of
    /// pods' addresses.
    pub(super) async fn start_runtime(
        &self,
        options: &RuntimeOptions,
        driver: CgroupDriver,
        subnet: watch::Receiver<Option<Subnet>>,
        tasks: &mut JoinSet<String>,
        progress: &Progress,
        shutdown: &Shutdown,
    ) -> anyhow::Result<(Runtime, Announcements)> {
        if let Some(remote) = options.connect(driver, progress).await? {
            let announcements = self.start_remote(options, remote.clone(), subnet, tasks)?;
            return Ok((remote, announcements));
        }
        let started = self
            .start_engine(options, driver, subnet, tasks, shutdown)
            .await?;
        progress.done("the container engine runs");
        Ok(started)
    }

    async fn start_engine(
        &self,
        options: &RuntimeOptions,
        driver: CgroupDriver,
        subnet: watch::Receiver<Option<Subnet>>,
        tasks: &mut JoinSet<String>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<(Runtime, Announcements)> {
        let layout = self.layout;
        ensure!(
            driver == CgroupDriver::Cgroupfs || systemd::listens(Path::new(systemd::PRIVATE)),
            "cgroupDriver: systemd: no systemd runs here ({} is missing)",
            systemd::PRIVATE
        );
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
            cgroup_driver: driver,
            selinux: options.selinux,
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
            cgroup_driver: driver,
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
}
