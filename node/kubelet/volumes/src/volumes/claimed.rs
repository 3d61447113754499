//! Volumes that are mounted whole: by claims, inline ones of drivers, NFS.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::{Volumes, host_path, uid};
use crate::drivers::{DriverUsage, DriverVolume};
use crate::error::{Phase, VolumeError};
use crate::mount;
use crate::nfs::{self, Export};
use crate::plan::claims::{self, Persistent, Source};
use crate::plan::{ClaimRef, VolumeKind, plan};

/// Where a volume that is mounted whole is.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    path: PathBuf,
    read_only: bool,
    block: bool,
}

/// What was placed, by the pod's uid and the volume's name in it.
pub(super) type Places = BTreeMap<(String, String), Placed>;

impl Volumes {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget_places(&self, pod_uid: &str) {
        self.places().retain(|(uid, _), _| uid != pod_uid);
    }

    /// The path of a volume that was mounted whole, and whether it is for reading alone.
    pub(super) fn placed(&self, pod: &Pod, volume: &str) -> Option<(PathBuf, bool)> {
        let key = (uid(pod).to_owned(), volume.to_owned());
        let placed = self.places().get(&key).filter(|placed| !placed.block).cloned()?;
        Some((placed.path, placed.read_only))
    }

    /// The pod's mounted file systems that come from claims: the volume, its claim, and where it is mounted. Directories
    /// of the host's are none.
    pub fn of_claims(&self, pod: &Pod) -> Vec<(String, String, PathBuf)> {
        let below = self.paths.pods().join(uid(pod));
        let mut all = Vec::new();
        for (name, planned) in plan(pod) {
            let kind = planned.map(|volume| volume.kind);
            if let Ok(VolumeKind::Claim(claim)) = kind
                && let Some((path, _)) = self.placed(pod, &name)
                && path.starts_with(&below)
            {
                all.push((name, claim.name, path));
            }
        }
        all
    }

    /// How full its driver says that what is mounted at `path` is; none where no driver tells.
    ///
    /// # Errors
    /// The driver's words.
    pub async fn usage(&self, path: &Path) -> Option<Result<DriverUsage, VolumeError>> {
        self.drivers.as_ref()?.usage(path).await
    }

    /// The device of a volume that the pod uses as one, and whether it is for reading alone; none if there is no such
    /// volume or it is a file system.
    pub fn device(&self, pod: &Pod, volume: &str) -> Option<(PathBuf, bool)> {
        let key = (uid(pod).to_owned(), volume.to_owned());
        let placed = self.places().get(&key).filter(|placed| placed.block).cloned()?;
        Some((placed.path, placed.read_only))
    }

    /// Makes a volume that is mounted whole. True if its size has changed.
    pub(super) async fn make_whole(
        &self,
        name: &str,
        kind: &VolumeKind,
        pod: &Pod,
    ) -> Result<bool, VolumeError> {
        let (placed, grown) = match kind {
            VolumeKind::Claim(claim) => self.claimed(name, claim, pod).await?,
            VolumeKind::Nfs(export) => {
                let path = self.nfs(name, export, &[], pod).await?;
                (
                    Placed {
                        path,
                        read_only: export.read_only,
                        block: false,
                    },
                    false,
                )
            }
            VolumeKind::Driver(volume) => {
                let mut volume = volume.as_ref().clone();
                volume.name = name.to_owned();
                self.driven(&volume, pod).await?
            }
            _ => return Ok(false),
        };
        self.places()
            .insert((uid(pod).to_owned(), name.to_owned()), placed);
        Ok(grown)
    }

    async fn claimed(&self, name: &str, wanted: &ClaimRef, pod: &Pod) -> Result<(Placed, bool), VolumeError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let claim = wanted.name.as_str();
        let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}");
        let prefix =
            format!("error processing PVC {namespace}/{claim}: failed to fetch PVC from API server: ");
        let missing = format!("persistentvolumeclaims {claim:?} not found");
        let claim = self.read(&path, &prefix, missing).await?;
        let bound = claims::bound(&claim, wanted.own.then(|| uid(pod)))?.to_owned();
        let prefix = format!(
            "error processing PVC {namespace}/{}: failed to fetch PV {bound} from API server: ",
            wanted.name
        );
        let missing = format!("persistentvolumes {bound:?} not found");
        let volume = self
            .read(&format!("/api/v1/persistentvolumes/{bound}"), &prefix, missing)
            .await?;
        let found = claims::resolve(&claim, &volume, wanted.read_only)?;
        check_use(name, &found, pod)?;
        self.place(found, pod).await
    }

    async fn read(&self, path: &str, prefix: &str, missing: String) -> Result<Value, VolumeError> {
        match self.objects.object(path).await {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(VolumeError::Claim(format!("{prefix}{missing}"))),
            Err(error) => Err(VolumeError::Claim(format!("{prefix}{error}"))),
        }
    }

    async fn place(&self, found: Persistent, pod: &Pod) -> Result<(Placed, bool), VolumeError> {
        let (read_only, block) = (found.read_only, found.block);
        let path = match &found.source {
            Source::HostPath { path, check } => {
                host_path::check(Path::new(path), check)?;
                PathBuf::from(path)
            }
            Source::Local { path, .. } if block => device(Path::new(path))?,
            Source::Local { path, kind } => self.local(&found, Path::new(path), kind.as_deref(), pod).await?,
            Source::Nfs { server, path } => {
                let export = Export {
                    server: server.clone(),
                    path: path.clone(),
                    read_only,
                };
                self.nfs(&found.name, &export, &found.mount_options, pod).await?
            }
            Source::Driver(volume) => return self.driven(volume, pod).await,
        };
        Ok((
            Placed {
                path,
                read_only,
                block,
            },
            false,
        ))
    }

    async fn driven(&self, volume: &DriverVolume, pod: &Pod) -> Result<(Placed, bool), VolumeError> {
        let Some(drivers) = &self.drivers else {
            return Err(VolumeError::Unsupported {
                what: "csi".to_owned(),
            });
        };
        let mounted = drivers.mount(volume, pod).await?;
        let placed = Placed {
            path: mounted.path,
            read_only: volume.read_only,
            block: volume.block,
        };
        Ok((placed, mounted.grown))
    }

    async fn nfs(
        &self,
        name: &str,
        export: &Export,
        options: &[String],
        pod: &Pod,
    ) -> Result<PathBuf, VolumeError> {
        let target = self.paths.volume(uid(pod), "kubernetes.io/nfs", name);
        if !mount::is_mount_point(&target)? {
            fs::create_dir_all(&target).map_err(|error| VolumeError::io("create", &target, error))?;
            if let Err(message) = nfs::mount(export, options, &target).await {
                // Nothing is mounted: the directory is empty.
                let _ = fs::remove_dir(&target);
                return Err(VolumeError::in_phase(Phase::SetUp, name, message));
            }
        }
        Ok(target)
    }
}

fn device(path: &Path) -> Result<PathBuf, VolumeError> {
    let real = fs::canonicalize(path).map_err(|error| VolumeError::io("resolve", path, error))?;
    host_path::check(&real, "BlockDevice").map(|()| real)
}

/// A device goes into `volumeDevices`, a file system into `volumeMounts`.
fn check_use(name: &str, found: &Persistent, pod: &Pod) -> Result<(), VolumeError> {
    let spec = pod.spec.iter();
    let all = spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let (mut mounted, mut mapped) = (false, false);
    for container in all {
        mounted |= container
            .volume_mounts
            .iter()
            .flatten()
            .any(|one| one.name == name);
        mapped |= container
            .volume_devices
            .iter()
            .flatten()
            .any(|one| one.name == name);
    }
    let mode = |mode: &str, place: &str| {
        let text = format!("volume {name} has volumeMode {mode}, but is specified in {place}");
        Err(VolumeError::Claim(text))
    };
    match found.block {
        true if mounted => mode("Block", "volumeMounts"),
        false if mapped => mode("Filesystem", "volumeDevices"),
        _ => Ok(()),
    }
}
