//! Making volumes real, keeping their content current, and taking them away.

mod claimed;
mod content;
mod disks;
mod host_path;
mod ownership;
mod teardown;
mod tokens;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::drivers::Drivers;
use crate::error::VolumeError;
use crate::fields::PodFields;
use crate::objects::Objects;
use crate::paths::PodPaths;
use crate::plan::{Volume, VolumeKind, plan};
use crate::{atomic, mount, subpath};

/// The volumes of all pods of this node.
pub struct Volumes {
    paths: PodPaths,
    objects: Arc<dyn Objects>,
    tokens: tokens::Shelves,
    drivers: Option<Arc<dyn Drivers>>,
    places: Mutex<claimed::Places>,
    disks: disks::Turns,
}

/// How often trust bundles are looked at, as often as upstream syncs a pod.
const BUNDLES_AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// Whether a volume of the pod shows trust bundles.
fn follows_bundles(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources = volumes.filter_map(|volume| volume.projected.as_ref()?.sources.as_ref());
    sources
        .flatten()
        .any(|source| source.cluster_trust_bundle.is_some())
}

/// Whether volumes of the pod may grow, or have to be published again.
fn has_drivers_volumes(pod: &Pod) -> bool {
    let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.any(|volume| {
        volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() || volume.csi.is_some()
    })
}

/// What [`Volumes::set_up`] has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetUp {
    /// Content of at least one volume is new.
    pub changed: bool,
    /// When a token of the pod should be replaced by calling again.
    pub refresh_at: Option<Timestamp>,
    /// Volumes from claims that have grown.
    pub grown: Vec<String>,
}

impl Volumes {
    /// Volumes below `paths` with content from `objects`.
    pub fn new(paths: PodPaths, objects: Arc<dyn Objects>) -> Self {
        Self {
            paths,
            objects,
            tokens: tokens::Shelves::default(),
            drivers: None,
            places: Mutex::default(),
            disks: disks::Turns::default(),
        }
    }

    /// With CSI drivers.
    pub fn with_drivers(self, drivers: Option<Arc<dyn Drivers>>) -> Self {
        Self { drivers, ..self }
    }

    /// Where things lie.
    pub fn paths(&self) -> &PodPaths {
        &self.paths
    }

    /// Makes every volume of the pod, or brings its content up to date; may be called again at any time.
    ///
    /// # Errors
    /// The volumes that failed by name; the others have been made.
    pub async fn set_up(
        &self,
        fields: PodFields<'_>,
        now: Timestamp,
    ) -> Result<SetUp, Vec<(String, VolumeError)>> {
        let mut done = SetUp::default();
        let mut failed = Vec::new();
        for (name, planned) in plan(fields.pod) {
            let made = match planned {
                Ok(volume) if volume.kind.is_whole() => {
                    let grown = self.make_whole(&name, &volume.kind, fields.pod).await;
                    done.grown.extend(matches!(grown, Ok(true)).then(|| name.clone()));
                    grown
                }
                Ok(volume) => self.make(&volume, fields, now).await,
                Err(error) => Err(error),
            };
            match made {
                Ok(changed) => done.changed |= changed,
                Err(error) => failed.push((name, error)),
            }
        }
        if !failed.is_empty() {
            return Err(failed);
        }
        let renewed = follows_bundles(fields.pod) || has_drivers_volumes(fields.pod);
        let renewed = renewed.then(|| now.checked_add(BUNDLES_AGAIN).ok());
        let tokens = self.tokens.next_refresh(uid(fields.pod));
        done.refresh_at = [renewed.flatten(), tokens].into_iter().flatten().min();
        Ok(done)
    }

    /// The host's path of a volume of the pod, whether it exists or not, and whether it is for reading alone; `None`
    /// if the pod has no such volume, it cannot be planned, it is an image, or it is to be mounted whole and is not.
    pub fn host_path(&self, pod: &Pod, volume: &str) -> Option<(PathBuf, bool)> {
        let (_, planned) = plan(pod).into_iter().find(|(name, _)| name == volume)?;
        let volume = planned.ok()?;
        if volume.kind == VolumeKind::Image {
            return None;
        }
        if volume.kind.is_whole() {
            return self.placed(pod, &volume.name);
        }
        Some((self.directory(pod, &volume), volume.kind.always_read_only()))
    }

    /// Whether a volume of the pod is its own to label: what the kubelet has made or mounted for it to write to or fill,
    /// but neither the host's directories nor file systems that others mount too (upstream: `SELinuxRelabel`).
    pub fn is_pods_own(&self, pod: &Pod, volume: &str) -> bool {
        let planned = plan(pod).into_iter().find(|(name, _)| name == volume);
        match planned
            .and_then(|(_, planned)| planned.ok())
            .map(|volume| volume.kind)
        {
            None | Some(VolumeKind::HostPath { .. } | VolumeKind::Nfs(_) | VolumeKind::Image) => false,
            Some(VolumeKind::Claim(_) | VolumeKind::Driver(_)) => {
                let below = self.paths.pods().join(uid(pod));
                self.placed(pod, volume)
                    .is_some_and(|(path, read_only)| !read_only && path.starts_with(below))
            }
            Some(_) => true,
        }
    }

    /// Binds a `subPath` of a volume to where a container can be given it.
    ///
    /// # Errors
    /// When the path leaves the volume or cannot be mounted.
    pub fn sub_path(
        &self,
        pod: &Pod,
        volume: &str,
        sub_path: &str,
        container: &str,
        index: usize,
    ) -> Result<PathBuf, VolumeError> {
        let missing = || VolumeError::NotFound {
            kind: "volume",
            name: volume.to_owned(),
        };
        let (directory, _) = self.host_path(pod, volume).ok_or_else(missing)?;
        let target = self
            .paths
            .subpaths(uid(pod))
            .join(volume)
            .join(container)
            .join(index.to_string());
        subpath::bind(&directory, sub_path, &target)
    }

    /// Lets drivers take back what the pod has of them, and unmounts disks that nobody else has; to be called before [`Self::tear_down`] and
    /// [`Self::unmount`], and again when it fails.
    ///
    /// # Errors
    /// All that went wrong.
    pub async fn release(&self, pod_uid: &str) -> Result<(), Vec<VolumeError>> {
        self.forget_places(pod_uid);
        let mut errors = self.release_disks(pod_uid).await;
        if let Some(drivers) = &self.drivers {
            errors.extend(drivers.unmount(pod_uid).await.err().into_iter().flatten());
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Unmounts and removes everything below the pod's directory; what is already gone is fine. Goes on
    /// after errors and never deletes below a mount point.
    ///
    /// # Errors
    /// All that went wrong.
    pub fn tear_down(&self, pod_uid: &str) -> Result<(), Vec<VolumeError>> {
        self.tokens.forget(pod_uid);
        teardown::pod_directory(&self.paths, pod_uid)
    }

    /// Like [`Self::tear_down`] but leaves the pod's own directory (termination messages, hosts file) to
    /// a pod that has ended and still exists in the API.
    ///
    /// # Errors
    /// All that went wrong.
    pub fn unmount(&self, pod_uid: &str) -> Result<(), Vec<VolumeError>> {
        self.tokens.forget(pod_uid);
        teardown::volumes(&self.paths, pod_uid)
    }

    fn directory(&self, pod: &Pod, volume: &Volume) -> PathBuf {
        match &volume.kind {
            VolumeKind::HostPath { path, .. } => PathBuf::from(path),
            kind => self.paths.volume(uid(pod), kind.plugin(), &volume.name),
        }
    }

    async fn make(
        &self,
        volume: &Volume,
        fields: PodFields<'_>,
        now: Timestamp,
    ) -> Result<bool, VolumeError> {
        let directory = self.directory(fields.pod, volume);
        let group = fs_group(fields.pod);
        match &volume.kind {
            VolumeKind::HostPath { path, check } => host_path::check(Path::new(path), check).map(|()| false),
            VolumeKind::EmptyDir { memory, size_limit } => {
                let size = smaller(*size_limit, memory_limit(fields.pod));
                empty_dir(&directory, memory.then_some(size), group).map(|()| false)
            }
            VolumeKind::Image => Ok(false),
            kind => {
                // Read before anything is made, so that a missing object leaves nothing behind.
                let payload = self.content(kind, fields, now).await?;
                let in_memory = !matches!(kind, VolumeKind::ConfigMap(_));
                prepare(&directory, in_memory.then(|| memory_limit(fields.pod)))?;
                atomic::write(&directory, &payload, now, |fresh| match group {
                    Some(group) => ownership::give(fresh, group, true),
                    None => Ok(()),
                })
            }
        }
    }
}

/// Gives a volume's files to a group, as the pod wants it (upstream: `fsGroupChangePolicy`).
///
/// # Errors
/// The kernel's answers.
pub fn own(directory: &Path, pod: &Pod, group: u32, read_only: bool) -> Result<(), VolumeError> {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
    if policy == Some("OnRootMismatch") && ownership::is_given(directory, group, read_only)? {
        return Ok(());
    }
    ownership::give(directory, group, read_only)
}

fn empty_dir(directory: &Path, memory: Option<Option<u64>>, group: Option<u32>) -> Result<(), VolumeError> {
    let fresh = !directory.exists();
    prepare(directory, memory)?;
    match group {
        Some(group) if fresh => ownership::give(directory, group, false),
        _ => Ok(()),
    }
}

/// Makes the volume's directory, for everyone to use; `memory` mounts a tmpfs (of that size) on it.
fn prepare(directory: &Path, memory: Option<Option<u64>>) -> Result<(), VolumeError> {
    let existed = directory.exists();
    fs::create_dir_all(directory).map_err(|error| VolumeError::io("create", directory, error))?;
    let mode = match memory {
        Some(size) => {
            if mount::is_mount_point(directory)? {
                return Ok(());
            }
            mount::tmpfs(directory, size)?;
            0o1777
        }
        // Its owner may have changed its mode since.
        None if existed => return Ok(()),
        None => 0o777,
    };
    fs::set_permissions(directory, Permissions::from_mode(mode))
        .map_err(|error| VolumeError::io("chmod", directory, error))
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

fn smaller(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The pod's memory limit, if every container has one (upstream: `resource.PodLimits`).
fn memory_limit(pod: &Pod) -> Option<u64> {
    let spec = pod.spec.as_ref()?;
    spec.containers
        .iter()
        .map(|container| {
            let limit = container.resources.as_ref()?.limits.as_ref()?.get("memory")?;
            crate::fields::bytes(&limit.0).ok()
        })
        .sum()
}

#[cfg(test)]
mod tests;
