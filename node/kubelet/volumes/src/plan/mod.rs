//! From the pod's specification to typed volumes. Pure.

pub(crate) mod claims;
mod references;
pub(crate) mod trust;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector, Pod, ResourceFieldSelector,
    SecretProjection, Volume as ApiVolume, VolumeProjection,
};

use crate::drivers::DriverVolume;
use crate::error::VolumeError;
use crate::nfs::Export;
use crate::objects::TrustQuery;

pub use references::{References, references};

/// One volume of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// Its name in the pod.
    pub name: String,
    /// What it is made of.
    pub kind: VolumeKind,
}

/// What a volume is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum VolumeKind {
    /// A directory of the pod's own.
    EmptyDir {
        /// Kept in memory instead of on disk.
        memory: bool,
        /// Upper limit in bytes, if any.
        size_limit: Option<u64>,
    },
    /// A path of the host.
    HostPath {
        /// The path.
        path: String,
        /// `Directory`, `FileOrCreate`, …, or empty for no check.
        check: String,
    },
    /// The keys of a config map.
    ConfigMap(ObjectRef),
    /// The keys of a secret, in memory.
    Secret(ObjectRef),
    /// Fields of the pod, in memory.
    DownwardApi(DownwardSource),
    /// Several sources in one directory, in memory.
    Projected {
        /// The sources in order; later ones win.
        sources: Vec<ProjectedSource>,
    },
    /// The volume of a claim.
    Claim(ClaimRef),
    /// A volume of a CSI driver, made for the pod.
    Driver(Box<DriverVolume>),
    /// What an NFS server exports.
    Nfs(Export),
    /// The files of an image, which the runtime mounts.
    Image,
}

/// A claim that a pod uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRef {
    /// Its name.
    pub name: String,
    /// Made for this pod alone.
    pub own: bool,
    /// For reading alone.
    pub read_only: bool,
}

/// A config map or secret and which of its keys.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectRef {
    /// Name of the object in the pod's namespace.
    pub name: String,
    /// Which keys go where.
    pub items: Items,
}

/// Selection of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Items {
    /// The keys; none means all.
    pub keys: Vec<KeyPath>,
    /// Permission bits where an item names none.
    pub default_mode: u32,
    /// Missing objects and keys are fine.
    pub optional: bool,
}

/// One key and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPath {
    /// The key.
    pub key: String,
    /// Path of the file in the volume.
    pub path: String,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// Files with fields of the pod.
#[derive(Debug, Clone, PartialEq)]
pub struct DownwardSource {
    /// The files.
    pub items: Vec<DownwardItem>,
    /// Permission bits where an item names none.
    pub default_mode: u32,
}

/// One file with one field.
#[derive(Debug, Clone, PartialEq)]
pub struct DownwardItem {
    /// Path of the file in the volume.
    pub path: String,
    /// A field of the pod.
    pub field: Option<ObjectFieldSelector>,
    /// A resource of a container.
    pub resource: Option<ResourceFieldSelector>,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// One source of a projected volume.
#[derive(Debug, Clone, PartialEq)]
pub enum ProjectedSource {
    /// A config map.
    ConfigMap(ObjectRef),
    /// A secret.
    Secret(ObjectRef),
    /// Fields of the pod.
    DownwardApi(DownwardSource),
    /// A token of the pod's service account.
    Token {
        /// Audience; none means the API server's.
        audience: Option<String>,
        /// Lifetime in seconds.
        expiration_seconds: i64,
        /// Path of the file.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// Certificates of trust bundles.
    TrustBundle {
        /// Which ones; none matches nothing.
        query: Option<TrustQuery>,
        /// Without any the file is empty.
        optional: bool,
        /// Path of the file.
        path: String,
        /// Permission bits.
        mode: u32,
    },
}

impl VolumeKind {
    /// Name of the upstream plugin, which names the directory.
    pub fn plugin(&self) -> &'static str {
        match self {
            Self::EmptyDir { .. } => "kubernetes.io/empty-dir",
            Self::HostPath { .. } => "kubernetes.io/host-path",
            Self::ConfigMap(_) => "kubernetes.io/configmap",
            Self::Secret(_) => "kubernetes.io/secret",
            Self::DownwardApi(_) => "kubernetes.io/downward-api",
            Self::Projected { .. } => "kubernetes.io/projected",
            Self::Claim(_) => "kubernetes.io/persistent-claim",
            Self::Driver(_) => "kubernetes.io/csi",
            Self::Nfs(_) => "kubernetes.io/nfs",
            Self::Image => "kubernetes.io/image",
        }
    }

    /// Whether containers see the volume read-only whatever their mount says (upstream: `ReadOnly` of the
    /// mounter's attributes).
    pub fn always_read_only(&self) -> bool {
        !matches!(self, Self::EmptyDir { .. } | Self::HostPath { .. }) && !self.is_whole()
    }

    /// Whether it is mounted whole, and where is known once it is.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::Driver(_) | Self::Nfs(_))
    }

    /// Whether the content comes from the API and changes with it.
    pub fn has_content(&self) -> bool {
        self.always_read_only() && *self != Self::Image
    }
}

/// The volumes of `pod`, each planned or refused by itself.
pub fn plan(pod: &Pod) -> Vec<(String, Result<Volume, VolumeError>)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .map(|volume| {
            let planned = kind(volume, pod).map(|kind| Volume {
                name: volume.name.clone(),
                kind,
            });
            (volume.name.clone(), planned)
        })
        .collect()
}

fn kind(volume: &ApiVolume, pod: &Pod) -> Result<VolumeKind, VolumeError> {
    if let Some(source) = &volume.empty_dir {
        return empty_dir(
            source.medium.as_deref(),
            source.size_limit.as_ref().map(|limit| limit.0.as_str()),
        );
    }
    if let Some(source) = &volume.host_path {
        let check = source.type_.clone().unwrap_or_default();
        return Ok(VolumeKind::HostPath {
            path: source.path.clone(),
            check,
        });
    }
    if let Some(source) = &volume.config_map {
        let items = items(source.items.as_deref(), source.default_mode, source.optional);
        return Ok(VolumeKind::ConfigMap(ObjectRef {
            name: source.name.clone(),
            items,
        }));
    }
    if let Some(source) = &volume.secret {
        let items = items(source.items.as_deref(), source.default_mode, source.optional);
        return Ok(VolumeKind::Secret(ObjectRef {
            name: source.secret_name.clone().unwrap_or_default(),
            items,
        }));
    }
    if let Some(source) = &volume.downward_api {
        return Ok(VolumeKind::DownwardApi(downward(
            source.items.as_deref(),
            source.default_mode,
        )));
    }
    if let Some(source) = &volume.projected {
        let sources = source.sources.iter().flatten();
        let sources = sources
            .map(|one| projected(one, source.default_mode))
            .collect::<Result<_, _>>()?;
        return Ok(VolumeKind::Projected { sources });
    }
    if volume.image.is_some() {
        return Ok(VolumeKind::Image);
    }
    match whole(volume, pod) {
        Some(kind) => Ok(kind),
        None => Err(unknown(volume)),
    }
}

/// What is mounted whole.
fn whole(volume: &ApiVolume, pod: &Pod) -> Option<VolumeKind> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(VolumeKind::Claim(ClaimRef {
            name: source.claim_name.clone(),
            own: false,
            read_only: source.read_only.unwrap_or(false),
        }));
    }
    if volume.ephemeral.is_some() {
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        return Some(VolumeKind::Claim(ClaimRef {
            name: format!("{pod}-{}", volume.name),
            own: true,
            read_only: false,
        }));
    }
    if let Some(source) = &volume.nfs {
        return Some(VolumeKind::Nfs(Export {
            server: source.server.clone(),
            path: source.path.clone(),
            read_only: source.read_only.unwrap_or(false),
        }));
    }
    let source = volume.csi.as_ref()?;
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let secret = source.node_publish_secret_ref.as_ref();
    Some(VolumeKind::Driver(Box::new(DriverVolume {
        driver: source.driver.clone(),
        read_only: source.read_only.unwrap_or(false),
        fs_type: source.fs_type.clone().unwrap_or_default(),
        attributes: source.volume_attributes.clone().unwrap_or_default(),
        publish_secret: secret.map(|secret| (namespace, secret.name.clone())),
        ..DriverVolume::default()
    })))
}

fn empty_dir(medium: Option<&str>, size_limit: Option<&str>) -> Result<VolumeKind, VolumeError> {
    let memory = match medium.unwrap_or_default() {
        "" => false,
        "Memory" => true,
        other => {
            return Err(VolumeError::Unsupported {
                what: format!("emptyDir medium {other}"),
            });
        }
    };
    let size_limit = match size_limit {
        None => None,
        Some(text) => Some(crate::fields::bytes(text).map_err(VolumeError::Field)?),
    };
    Ok(VolumeKind::EmptyDir {
        memory,
        size_limit: size_limit.filter(|bytes| *bytes > 0),
    })
}

const DEFAULT_MODE: i32 = 0o644;

fn mode(bits: Option<i32>) -> u32 {
    bits.unwrap_or(DEFAULT_MODE).unsigned_abs() & 0o7777
}

fn items(keys: Option<&[KeyToPath]>, default_mode: Option<i32>, optional: Option<bool>) -> Items {
    let keys = keys.unwrap_or_default().iter().map(|item| KeyPath {
        key: item.key.clone(),
        path: item.path.clone(),
        mode: item.mode.map(|bits| mode(Some(bits))),
    });
    Items {
        keys: keys.collect(),
        default_mode: mode(default_mode),
        optional: optional.unwrap_or(false),
    }
}

fn downward(files: Option<&[DownwardAPIVolumeFile]>, default_mode: Option<i32>) -> DownwardSource {
    let items = files.unwrap_or_default().iter().map(|file| DownwardItem {
        path: file.path.clone(),
        field: file.field_ref.clone(),
        resource: file.resource_field_ref.clone(),
        mode: file.mode.map(|bits| mode(Some(bits))),
    });
    DownwardSource {
        items: items.collect(),
        default_mode: mode(default_mode),
    }
}

fn projected(source: &VolumeProjection, default_mode: Option<i32>) -> Result<ProjectedSource, VolumeError> {
    if let Some(ConfigMapProjection {
        items: keys,
        name,
        optional,
    }) = &source.config_map
    {
        let items = items(keys.as_deref(), default_mode, *optional);
        return Ok(ProjectedSource::ConfigMap(ObjectRef {
            name: name.clone(),
            items,
        }));
    }
    if let Some(SecretProjection {
        items: keys,
        name,
        optional,
    }) = &source.secret
    {
        let items = items(keys.as_deref(), default_mode, *optional);
        return Ok(ProjectedSource::Secret(ObjectRef {
            name: name.clone(),
            items,
        }));
    }
    if let Some(source) = &source.downward_api {
        return Ok(ProjectedSource::DownwardApi(downward(
            source.items.as_deref(),
            default_mode,
        )));
    }
    if let Some(source) = &source.service_account_token {
        return Ok(ProjectedSource::Token {
            audience: source.audience.clone().filter(|audience| !audience.is_empty()),
            expiration_seconds: source.expiration_seconds.unwrap_or(3600),
            path: source.path.clone(),
            mode: mode(default_mode),
        });
    }
    if let Some(source) = &source.cluster_trust_bundle {
        return Ok(ProjectedSource::TrustBundle {
            query: trust::query(source),
            optional: source.optional.unwrap_or(false),
            path: source.path.clone(),
            mode: mode(default_mode),
        });
    }
    let what = match &source.pod_certificate {
        Some(_) => "projected podCertificate",
        None => "projected source",
    };
    Err(VolumeError::Unsupported {
        what: what.to_owned(),
    })
}

/// Names the type of a volume that is not implemented.
fn unknown(volume: &ApiVolume) -> VolumeError {
    let what = serde_json::to_value(volume).ok().and_then(|value| {
        let fields = value.as_object()?;
        fields.keys().find(|key| key.as_str() != "name").cloned()
    });
    match what {
        Some(what) => VolumeError::Unsupported { what },
        None => VolumeError::NoSource,
    }
}

#[cfg(test)]
mod tests;
