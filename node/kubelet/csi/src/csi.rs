//! Drivers as they register, and what all operations share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use knode_volumes::{DriverMount, DriverUsage, DriverVolume, Drivers, Objects, VolumeError};
use tokio::sync::OwnedMutexGuard;

use crate::client::Driver;
use crate::layout::{Layout, VolumeData};
use crate::node;
use crate::plan::in_use;

/// What [`Csi`] is given.
#[derive(Clone)]
pub struct CsiConfig {
    /// The kubelet's root (upstream: `/var/lib/kubelet`).
    pub root: PathBuf,
    /// The node's name.
    pub node_name: String,
    /// The API with the node's identity.
    pub objects: Arc<dyn Objects>,
}

/// Why a driver is not taken; the text is for the driver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegisterError(pub String);

/// A driver and the socket by which it registered.
struct Registered {
    driver: Driver,
    socket: PathBuf,
}

/// Driver and handle.
type VolumeKey = (String, String);

/// The CSI drivers of this node.
pub struct Csi {
    pub(crate) config: CsiConfig,
    pub(crate) layout: Layout,
    drivers: Mutex<BTreeMap<String, Registered>>,
    /// Held while something is done about a volume.
    volumes: Mutex<HashMap<VolumeKey, Arc<tokio::sync::Mutex<()>>>>,
    /// Driver and handle of what was staged since the daemon began.
    staged: Mutex<BTreeSet<VolumeKey>>,
    /// Held while the node's objects are changed.
    node: tokio::sync::Mutex<()>,
}

impl Csi {
    /// Without drivers yet.
    pub fn new(config: CsiConfig) -> Arc<Self> {
        Arc::new(Self {
            layout: Layout {
                root: config.root.clone(),
            },
            config,
            drivers: Mutex::default(),
            volumes: Mutex::default(),
            staged: Mutex::default(),
            node: tokio::sync::Mutex::default(),
        })
    }

    fn drivers(&self) -> MutexGuard<'_, BTreeMap<String, Registered>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a driver of this name and with these versions can be taken at all.
    ///
    /// # Errors
    /// Why not, in upstream's words.
    pub fn validate(&self, name: &str, versions: &[String]) -> Result<(), RegisterError> {
        let usable = versions.iter().any(|version| {
            let major = version.trim_start_matches('v').split('.').next();
            major == Some("1")
        });
        match usable {
            true => Ok(()),
            false => Err(RegisterError(format!(
                "validating driver {name}: need at least one supported version, has {versions:?}"
            ))),
        }
    }

    /// Takes a driver that serves on `endpoint` and has registered by `socket`: tells the API of it, and takes back
    /// what of it no pod uses any more.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn register(
        self: &Arc<Self>,
        name: &str,
        endpoint: &Path,
        socket: &Path,
    ) -> Result<(), RegisterError> {
        let connected = Driver::connect(name, endpoint).await;
        let (driver, info) = connected
            .map_err(|error| RegisterError(format!("error during CSI NodeGetInfo() call: {error}")))?;
        {
            let _turn = self.node.lock().await;
            node::add(&self.config, name, &info)
                .await
                .map_err(RegisterError)?;
        }
        let registered = Registered {
            driver: driver.clone(),
            socket: socket.to_owned(),
        };
        self.drivers().insert(name.to_owned(), registered);
        tracing::info!(driver = name, node_id = info.node_id, abilities = ?driver.abilities, "CSI driver registered");
        let own = self.clone();
        tokio::spawn(async move { own.sweep(&driver).await });
        Ok(())
    }

    /// The driver that has registered by `socket` is gone.
    pub async fn deregister(&self, name: &str, socket: &Path) {
        {
            let mut drivers = self.drivers();
            if drivers.get(name).is_none_or(|known| known.socket != socket) {
                return;
            }
            drivers.remove(name);
        }
        let _turn = self.node.lock().await;
        if let Err(error) = node::remove(&self.config, name).await {
            tracing::warn!(
                driver = name,
                error,
                "cannot take a CSI driver from the node's CSINode"
            );
        }
    }

    /// Tells the API which volumes must not be detached.
    pub(crate) async fn tell_in_use(&self) {
        let _turn = self.node.lock().await;
        let names = in_use(&self.layout.everything());
        if let Err(error) = node::tell_in_use(&self.config, &names).await {
            tracing::warn!(error, "cannot tell which volumes are in use");
        }
    }

    /// A driver that has registered.
    pub(crate) fn driver(&self, name: &str) -> Result<Driver, String> {
        let found = self.drivers().get(name).map(|one| one.driver.clone());
        found.ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))
    }

    pub(crate) fn is_staged(&self, data: &VolumeData) -> bool {
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        staged.contains(&(data.driver_name.clone(), data.volume_handle.clone()))
    }

    pub(crate) fn set_staged(&self, data: &VolumeData, is: bool) {
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (data.driver_name.clone(), data.volume_handle.clone());
        match is {
            true => drop(staged.insert(key)),
            false => drop(staged.remove(&key)),
        }
    }

    /// Whoever holds this is alone with the volume.
    pub(crate) async fn alone_with(&self, data: &VolumeData) -> OwnedMutexGuard<()> {
        let key = (data.driver_name.clone(), data.volume_handle.clone());
        let lock = {
            let mut all = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, lock| Arc::strong_count(lock) > 1);
            all.entry(key).or_default().clone()
        };
        lock.lock_owned().await
    }
}

/// [`Csi`] as volumes use it.
#[async_trait]
impl Drivers for Csi {
    async fn mount(&self, volume: &DriverVolume, pod: &Pod) -> Result<DriverMount, VolumeError> {
        self.mount_for(volume, pod).await
    }

    async fn unmount(&self, pod_uid: &str) -> Result<(), Vec<VolumeError>> {
        self.release(pod_uid).await
    }

    async fn usage(&self, path: &Path) -> Option<Result<DriverUsage, VolumeError>> {
        self.usage_of(path).await
    }
}
