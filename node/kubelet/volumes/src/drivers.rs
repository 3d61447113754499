//! What volumes need of CSI drivers, as a trait that whoever speaks with them implements.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;

use crate::error::VolumeError;

/// A secret by namespace and name.
pub type SecretName = (String, String);

/// A volume of a driver, as a pod asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverVolume {
    /// The driver.
    pub driver: String,
    /// The driver's name of the volume.
    pub handle: String,
    /// The PersistentVolume's name, or the inline volume's in its pod.
    pub name: String,
    /// A PersistentVolume, and not one inline in the pod.
    pub persistent: bool,
    /// To be mounted for reading alone.
    pub read_only: bool,
    /// A device, and not a file system.
    pub block: bool,
    /// The file system, empty for the driver's own choice.
    pub fs_type: String,
    /// What the driver wants to be told about it.
    pub attributes: BTreeMap<String, String>,
    /// Options of the mount.
    pub mount_options: Vec<String>,
    /// `ReadWriteOnce` and so on, as the volume offers them.
    pub access_modes: Vec<String>,
    /// For staging.
    pub stage_secret: Option<SecretName>,
    /// For publishing.
    pub publish_secret: Option<SecretName>,
    /// For growing.
    pub expand_secret: Option<SecretName>,
    /// For volumes from claims: how large they are.
    pub size: Option<Size>,
}

/// How large a volume from a claim is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Size {
    /// Namespace of the claim.
    pub namespace: String,
    /// The claim.
    pub claim: String,
    /// The volume's capacity, as written.
    pub capacity: String,
    /// The same in bytes.
    pub wanted: i64,
    /// What the claim's status says, in bytes.
    pub had: i64,
}

/// What came of mounting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverMount {
    /// The directory, or the device.
    pub path: PathBuf,
    /// The volume has grown.
    pub grown: bool,
}

/// How full a volume is, by its driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriverUsage {
    /// Size in bytes.
    pub capacity: u64,
    /// Bytes that may still be written.
    pub available: u64,
    /// Bytes in use.
    pub used: u64,
    /// Inodes, 0 where the driver says nothing of them.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
    /// Inodes in use.
    pub inodes_used: u64,
    /// Whether something is wrong with it, where the driver tells.
    pub abnormal: Option<bool>,
}

/// CSI drivers of this node.
#[async_trait]
pub trait Drivers: Send + Sync + 'static {
    /// Attaches, stages and publishes a volume for a pod, as far as that is not done; makes it larger where its claim
    /// wants that. May be called at any time.
    ///
    /// # Errors
    /// [`VolumeError::Driver`] with upstream's words.
    async fn mount(&self, volume: &DriverVolume, pod: &Pod) -> Result<DriverMount, VolumeError>;

    /// Takes back all that a pod has of drivers, whether the pod is known or not, and what then no pod has any more.
    /// Fine if there is nothing.
    ///
    /// # Errors
    /// All that went wrong.
    async fn unmount(&self, pod_uid: &str) -> Result<(), Vec<VolumeError>>;

    /// Asks the driver of what is mounted at `path` how full it is. None if no driver mounted it, or that one does not
    /// tell.
    ///
    /// # Errors
    /// The driver's words.
    async fn usage(&self, path: &Path) -> Option<Result<DriverUsage, VolumeError>>;
}
