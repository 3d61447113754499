//! Taking volumes away: unmount first, look whether all mounts are gone, delete then.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::error::VolumeError;
use crate::mount;
use crate::paths::PodPaths;

/// Volumes and subpaths of a pod.
pub(super) fn volumes(paths: &PodPaths, uid: &str) -> Result<(), Vec<VolumeError>> {
    published(paths, uid)?;
    let mut errors = unmount_all(&paths.pod(uid));
    for directory in [paths.subpaths(uid), paths.volumes(uid)] {
        errors.extend(remove(&directory).err());
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Everything of a pod.
pub(super) fn pod_directory(paths: &PodPaths, uid: &str) -> Result<(), Vec<VolumeError>> {
    published(paths, uid)?;
    let directory = paths.pod(uid);
    let mut errors = unmount_all(&directory);
    errors.extend(remove(&directory).err());
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// What drivers have published they take back themselves.
fn published(paths: &PodPaths, uid: &str) -> Result<(), Vec<VolumeError>> {
    let kinds = ["volumes", "volumeDevices"].map(|kind| paths.pod(uid).join(kind).join("kubernetes.io~csi"));
    let all = kinds
        .iter()
        .flat_map(|kind| fs::read_dir(kind).into_iter().flatten().flatten());
    let left: Vec<VolumeError> = all
        .map(|entry| entry.path())
        .filter(|path| path.join("vol_data.json").exists())
        .map(VolumeError::StillPublished)
        .collect();
    if left.is_empty() { Ok(()) } else { Err(left) }
}

fn unmount_all(directory: &Path) -> Vec<VolumeError> {
    if !directory.exists() {
        return Vec::new();
    }
    match mount::below(directory) {
        Ok(points) => points
            .iter()
            .filter_map(|point| mount::unmount(point).err())
            .collect(),
        Err(error) => vec![error],
    }
}

/// Deletes a directory with nothing mounted below it.
fn remove(directory: &Path) -> Result<(), VolumeError> {
    if !directory.exists() {
        return Ok(());
    }
    if let Some(point) = mount::below(directory)?.into_iter().next() {
        return Err(VolumeError::StillMounted(point));
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(VolumeError::io("remove", directory, error)),
        _ => Ok(()),
    }
}
