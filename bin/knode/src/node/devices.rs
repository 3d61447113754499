//! Device plugins for the kubelet's two halves, and what others of the machine may ask about them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};
use knode_client::{Client, Clock, SystemClock};
use knode_cri as cri;
use knode_kubelet::model::Rejection;
use knode_kubelet::{ContainerDevices, Kubelet, PodDevices};
use knode_kubelet_devices::pod_resources::{Claim, ClaimDevice, Given, MemoryBlock, PodResources};
use knode_kubelet_devices::{ByDirectory, Devices, DevicesConfig, RunOptions};
use knode_kubelet_dra::{ByDirectory as Drivers, ClaimState, Claims};
use knode_kubelet_node::DeviceCounts;
use knode_kubelet_plugins::{Handler, Watcher};
use knode_kubelet_resources::topology::HintProvider;
use knode_kubelet_resources::{CpuSet, Managers};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::claims;
use crate::engine::ended;
use crate::layout::Layout;

/// How long until drivers are asked again to take back what pods had that are gone.
const RETRY: Duration = Duration::from_secs(10);

/// The devices of the node.
#[derive(Clone)]
pub struct Plugins {
    devices: Arc<Devices>,
    claims: Arc<Claims>,
    registry: PathBuf,
    pod_resources: PathBuf,
    clock: Arc<SystemClock>,
}

impl Plugins {
    /// Remembers what pods were given before.
    pub fn open(
        layout: &Layout,
        client: Client,
        node: &str,
        clock: Arc<SystemClock>,
    ) -> anyhow::Result<Self> {
        let kubelet = layout.kubelet_dir();
        let config = DevicesConfig {
            directory: kubelet.join("device-plugins"),
            numa: numa_nodes(),
            clock: clock.clone(),
        };
        let api = claims::Api {
            client,
            node: node.to_owned(),
        };
        let claims = Claims::open(kubelet.join("dra_manager_state"), Arc::new(api));
        Ok(Self {
            claims: claims.context("open what is known of claims")?,
            devices: Devices::open(config).context("open what is known of devices")?,
            registry: kubelet.join("plugins_registry"),
            pod_resources: kubelet.join("pod-resources/kubelet.sock"),
            clock,
        })
    }

    /// Changes whenever there are other devices.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.devices.changes()
    }

    /// The part of devices in the decision on NUMA nodes.
    pub fn provider(&self) -> Arc<dyn HintProvider> {
        self.devices.clone()
    }

    /// Takes plugins, those of `others` among them, and answers who asks what pods were given.
    pub fn serve(
        &self,
        kubelet: &Arc<Kubelet>,
        managers: Arc<Managers>,
        mut others: Vec<Arc<dyn Handler>>,
        tasks: &mut JoinSet<String>,
    ) -> anyhow::Result<()> {
        others.push(Arc::new(ByDirectory(self.devices.clone())));
        others.push(Arc::new(Drivers(self.claims.clone())));
        let watcher = Watcher::new(&self.registry, others).context("look for plugins")?;
        tasks.spawn(async move { match watcher.run().await {} });
        let devices = self.devices.clone();
        tasks.spawn(async move { ended("device plugins", devices.serve().await) });
        let given = Arc::new(Pods {
            kubelet: kubelet.clone(),
            claims: self.claims.clone(),
            managers,
        });
        let api = PodResources::new(self.devices.clone(), given, self.clock.clone());
        let socket = self.pod_resources.clone();
        tasks.spawn(async move { ended("pod-resources API", api.serve(&socket).await) });
        Ok(())
    }
}

/// Numbers of the machine's NUMA nodes; a machine that has none is one.
fn numa_nodes() -> Vec<u32> {
    let entries = std::fs::read_dir("/sys/devices/system/node");
    let names = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    let number = |name: &str| name.strip_prefix("node")?.parse().ok();
    let mut nodes: Vec<u32> = names.filter_map(|name| number(name.to_str()?)).collect();
    nodes.sort_unstable();
    if nodes.is_empty() {
        nodes.push(0);
    }
    nodes
}

impl DeviceCounts for Plugins {
    fn counts(&self) -> BTreeMap<String, (usize, usize)> {
        let counts = self.devices.counts().into_iter();
        counts
            .map(|(name, count)| (name, (count.capacity, count.allocatable)))
            .collect()
    }
}

#[async_trait]
impl PodDevices for Plugins {
    fn counts(&self, resource: &str) -> bool {
        self.devices.knows(resource)
    }

    async fn admit(&self, pod: &Pod) -> Result<(), Rejection> {
        self.devices.admit(pod).await.map_err(|rejected| Rejection {
            reason: rejected.reason.to_owned(),
            message: rejected.message,
        })
    }

    async fn prepare(&self, pod: &Pod) -> Result<(), String> {
        let prepared = self.claims.prepare(pod).await;
        prepared.map_err(|error| cri::chain(&error))
    }

    async fn of_container(&self, pod: &Pod, container: &Container) -> Result<ContainerDevices, String> {
        let options = self.devices.run_options(pod, container).await;
        let mut given = to_core(options.map_err(|error| cri::chain(&error))?);
        let used = self.claims.of_container(pod, container);
        for claim in used.map_err(|error| cri::chain(&error))? {
            let devices = claim.drivers.into_values().flatten();
            let names = devices.flat_map(|device| device.cdi_device_ids);
            given.cdi_devices.extend(names);
        }
        Ok(given)
    }

    async fn release(&self, pod: &Pod) -> Result<(), String> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.devices.give_back(uid);
        let done = self.claims.unprepare(uid).await;
        done.map_err(|error| cri::chain(&error))
    }

    fn retain(&self, uids: &BTreeSet<String>) {
        self.devices.retain(uids);
        for uid in self.claims.strangers(uids) {
            let (claims, clock) = (self.claims.clone(), self.clock.clone());
            tokio::spawn(async move {
                // Its driver may have yet to come back.
                while let Err(error) = claims.unprepare(&uid).await {
                    let error = cri::chain(&error);
                    tracing::debug!(uid, error, "cannot take back the claims of a pod that is gone");
                    clock.sleep(RETRY).await;
                }
            });
        }
    }
}

fn to_core(options: RunOptions) -> ContainerDevices {
    let mounts = options.mounts.into_iter().map(|mount| cri::Mount {
        container_path: mount.container_path,
        host_path: mount.host_path,
        readonly: mount.read_only,
        ..cri::Mount::default()
    });
    let devices = options.devices.into_iter().map(|device| cri::Device {
        container_path: device.container_path,
        host_path: device.host_path,
        permissions: device.permissions,
    });
    ContainerDevices {
        envs: options.envs.into_iter().collect(),
        mounts: mounts.collect(),
        devices: devices.collect(),
        annotations: options.annotations,
        cdi_devices: options.cdi_devices,
    }
}

/// What pods have, for the pod-resources API.
struct Pods {
    kubelet: Arc<Kubelet>,
    claims: Arc<Claims>,
    managers: Arc<Managers>,
}

impl Given for Pods {
    fn pods(&self) -> Vec<Arc<Pod>> {
        let over = |pod: &Arc<Pod>| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let mut pods = self.kubelet.pods();
        pods.retain(|pod| !over(pod));
        pods
    }

    fn cpus(&self, uid: &str, container: &str) -> Vec<i64> {
        let pin = self.managers.pin(uid, container);
        let cpus = pin.cpus.parse().unwrap_or_default();
        if pin.exclusive { numbers(&cpus) } else { Vec::new() }
    }

    fn memory(&self, _: &str, _: &str) -> Vec<MemoryBlock> {
        Vec::new()
    }

    fn allocatable_cpus(&self) -> Vec<i64> {
        numbers(self.managers.allocatable_cpus())
    }

    fn allocatable_memory(&self) -> Vec<MemoryBlock> {
        Vec::new()
    }

    fn claims(&self, uid: &str, container: &str) -> Vec<Claim> {
        let Some(view) = self.kubelet.pod_by_uid(uid) else {
            return Vec::new();
        };
        let spec = view.pod.spec.as_ref();
        let init = spec.and_then(|spec| spec.init_containers.as_deref());
        let own = spec.map(|spec| spec.containers.as_slice());
        let mut all = init.into_iter().chain(own).flatten();
        let found = all.find(|one| one.name == container);
        let used = found.and_then(|found| self.claims.of_container(&view.pod, found).ok());
        used.into_iter().flatten().map(claim).collect()
    }
}

fn numbers(cpus: &CpuSet) -> Vec<i64> {
    cpus.iter().map(i64::from).collect()
}

fn claim(claim: ClaimState) -> Claim {
    let of_driver = |(driver, devices): (String, Vec<_>)| {
        let device = move |device: knode_kubelet_dra::DeviceState| ClaimDevice {
            cdi_devices: device.cdi_device_ids,
            driver: driver.clone(),
            pool: device.pool_name,
            device: device.device_name,
            share: None,
        };
        devices.into_iter().map(device)
    };
    Claim {
        name: claim.name,
        namespace: claim.namespace,
        devices: claim.drivers.into_iter().flat_map(of_driver).collect(),
    }
}
