//! Local PersistentVolumes: directories of the node, and disks, which are mounted once for all pods.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::OwnedMutexGuard;

use super::{Volumes, fs_group, uid};
use crate::disk::{self, Wanted};
use crate::error::{Phase, VolumeError};
use crate::mount;
use crate::plan::claims::Persistent;

const PLUGIN: &str = "kubernetes.io/local-volume";

/// Held while a volume of that name is made or given back.
#[derive(Default)]
pub(super) struct Turns(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    async fn take(&self, name: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(name.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

impl Volumes {
    /// A directory of the node, or its disk, bound to where upstream's kubelet has it.
    pub(super) async fn local(
        &self,
        found: &Persistent,
        source: &Path,
        kind: Option<&str>,
        pod: &Pod,
    ) -> Result<PathBuf, VolumeError> {
        let name = &found.name;
        let metadata = fs::metadata(source).map_err(|error| {
            let message = format!("path {:?} does not exist: {error}", source.display());
            VolumeError::in_phase(Phase::NewMounter, name, message)
        })?;
        let target = self.paths.volume(uid(pod), PLUGIN, name);
        let _turn = self.disks.take(name).await;
        if mount::is_mount_point(&target)? {
            return Ok(target);
        }
        // Before the disk is mounted: whoever gives it back finds it by this.
        fs::create_dir_all(&target).map_err(|error| VolumeError::io("create", &target, error))?;
        let source = match metadata.file_type().is_block_device() {
            true => self.disk(found, source, kind).await?,
            false => source.to_owned(),
        };
        mount::bind(&source, &target)?;
        match fs_group(pod) {
            Some(group) if !found.read_only => crate::own(&target, pod, group, false)?,
            _ => {}
        }
        Ok(target)
    }

    /// Where a disk is mounted for all pods.
    async fn disk(
        &self,
        found: &Persistent,
        device: &Path,
        kind: Option<&str>,
    ) -> Result<PathBuf, VolumeError> {
        let target = self.paths.disk(&found.name);
        if mount::is_mount_point(&target)? {
            return Ok(target);
        }
        let made = DirBuilder::new().recursive(true).mode(0o750).create(&target);
        made.map_err(|error| VolumeError::io("create", &target, error))?;
        let wanted = Wanted {
            kind,
            options: &found.mount_options,
            read_only: found.read_only,
        };
        match disk::mount(device, &target, &wanted).await {
            Ok(()) => Ok(target),
            Err(error) => {
                // Nothing is mounted: the directory is empty.
                let _ = fs::remove_dir(&target);
                let message = format!(
                    "local: failed to mount device {} at {} (fstype: {}), error {error}",
                    device.display(),
                    target.display(),
                    kind.unwrap_or_default()
                );
                Err(VolumeError::in_phase(Phase::MountDevice, &found.name, message))
            }
        }
    }

    /// Unmounts what the pod has of disks, and the disks that no other pod has.
    pub(super) async fn release_disks(&self, pod_uid: &str) -> Vec<VolumeError> {
        let own = self.paths.volume(pod_uid, PLUGIN, "");
        let names = fs::read_dir(own).into_iter().flatten().flatten();
        let mut errors = Vec::new();
        for name in names.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
            errors.extend(self.release_disk(pod_uid, &name).await.err());
        }
        errors
    }

    async fn release_disk(&self, pod_uid: &str, name: &str) -> Result<(), VolumeError> {
        let _turn = self.disks.take(name).await;
        let (own, disk) = (self.paths.volume(pod_uid, PLUGIN, name), self.paths.disk(name));
        if !disk.exists() {
            // A directory's, which goes with the pod's others.
            return Ok(());
        }
        unmount(own).await?;
        match self.others_have(pod_uid, name)? {
            true => Ok(()),
            false => unmount(disk).await,
        }
    }

    /// Whether another pod has this volume, or is about to.
    fn others_have(&self, pod_uid: &str, name: &str) -> Result<bool, VolumeError> {
        let pods = self.paths.pods();
        let all = fs::read_dir(&pods).map_err(|error| VolumeError::io("list", &pods, error))?;
        for entry in all {
            let entry = entry.map_err(|error| VolumeError::io("list", &pods, error))?;
            let other = entry.file_name().to_string_lossy().into_owned();
            if other != pod_uid && self.paths.volume(&other, PLUGIN, name).exists() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Unmounts `target` and removes the directory, which is empty then. What is to be written is written meanwhile.
async fn unmount(target: PathBuf) -> Result<(), VolumeError> {
    let path = target.clone();
    let task = tokio::task::spawn_blocking(move || {
        mount::unmount(&path)?;
        match fs::remove_dir(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(VolumeError::io("remove", &path, error)),
            _ => Ok(()),
        }
    });
    let lost = |_| VolumeError::io("unmount", &target, std::io::Error::other("given up"));
    task.await.unwrap_or_else(|error| Err(lost(error)))
}
