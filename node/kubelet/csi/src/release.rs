//! What a pod has of drivers is taken back, and what no pod has any more is unstaged. All of it is read from the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use knode_linux::overlay::{mount_points_below, unmount_all};
use knode_volumes::{Phase, VolumeError};

use crate::client::{Driver, answer, timed};
use crate::csi::Csi;
use crate::layout::{VolumeData, gone};
use crate::plan::unused;
use crate::v1::{NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest};

impl Csi {
    /// Unpublishes all that the pod has; then unstages what was its alone.
    pub(crate) async fn release(&self, pod_uid: &str) -> Result<(), Vec<VolumeError>> {
        let (mut errors, mut attached) = (Vec::new(), false);
        for block in [false, true] {
            for (directory, data) in self.layout.of_pod(pod_uid, block) {
                attached |= !data.attachment_id.is_empty();
                let _alone = self.alone_with(&data).await;
                let released = self.unpublish(pod_uid, &directory, &data, block).await;
                errors.extend(released.err());
            }
        }
        if attached {
            self.tell_in_use().await;
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    async fn unpublish(
        &self,
        pod_uid: &str,
        directory: &Path,
        data: &VolumeData,
        block: bool,
    ) -> Result<(), VolumeError> {
        let failed = |message: String| VolumeError::in_phase(Phase::TearDown, &data.spec_name, message);
        let driver = self.driver(&data.driver_name).map_err(failed)?;
        let target = match block {
            true => self.layout.device(&data.spec_name, pod_uid),
            false => directory.join("mount"),
        };
        let request = NodeUnpublishVolumeRequest {
            volume_id: data.volume_handle.clone(),
            target_path: target.display().to_string(),
        };
        let told = driver.calls().node_unpublish_volume(timed(request)).await;
        answer(told).map_err(failed)?;
        clear(&target).map_err(|error| failed(error.to_string()))?;
        self.unstage_if_unused(&driver, data, block, Some(directory))
            .await?;
        let removed = VolumeData::remove(directory).and_then(|()| gone(fs::remove_dir(directory)));
        removed.map_err(|error| failed(error.to_string()))
    }

    /// Unstages the volume unless a pod has it, other than the one whose directory this is: that goes last, so that
    /// whatever is left half-done is begun again from it.
    async fn unstage_if_unused(
        &self,
        driver: &Driver,
        data: &VolumeData,
        block: bool,
        own: Option<&Path>,
    ) -> Result<(), VolumeError> {
        let users = self.layout.of_all_pods();
        let users = users.iter().filter(|other| other.same_volume(data)).count();
        if users > usize::from(own.is_some()) {
            return Ok(());
        }
        let directory = match block {
            true => self.layout.device_data(data),
            false => self.layout.staged(data),
        };
        if VolumeData::read(&directory).is_none() {
            return Ok(());
        }
        let failed = |message: String| VolumeError::in_phase(Phase::UnmountDevice, &data.spec_name, message);
        let staging = self.layout.staging(data, block);
        self.set_staged(data, false);
        let request = NodeUnstageVolumeRequest {
            volume_id: data.volume_handle.clone(),
            staging_target_path: staging.display().to_string(),
        };
        let told = driver.calls().node_unstage_volume(timed(request)).await;
        answer(told).map_err(failed)?;
        let removed = clear(&staging)
            .and_then(|()| VolumeData::remove(&directory))
            .and_then(|()| gone(fs::remove_dir(&directory)));
        removed.map_err(|error| failed(error.to_string()))
    }

    /// Unstages what of a driver no pod has: pods may have gone while it, or the daemon, was away.
    pub(crate) async fn sweep(&self, driver: &Driver) {
        let used = self.layout.of_all_pods();
        let mut attached = false;
        for block in [false, true] {
            let staged: Vec<(PathBuf, VolumeData)> = match block {
                true => self.layout.all_staged_devices(&driver.name),
                false => self.layout.all_staged(&driver.name),
            };
            for (_, data) in unused(staged, &used) {
                attached |= !data.attachment_id.is_empty();
                let _alone = self.alone_with(&data).await;
                if let Err(error) = self.unstage_if_unused(driver, &data, block, None).await {
                    tracing::warn!(driver = driver.name, volume = data.volume_handle, %error, "cannot unstage");
                }
            }
        }
        if attached {
            self.tell_in_use().await;
        }
    }
}

/// Unmounts what the driver has left and removes the mount point, never what lies in it.
fn clear(target: &Path) -> io::Result<()> {
    for point in mount_points_below(target)?.into_iter().rev() {
        unmount_all(&point)?;
    }
    match fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() => gone(fs::remove_dir(target)),
        Ok(_) => gone(fs::remove_file(target)),
        Err(error) => gone(Err(error)),
    }
}
