//! Manifests and indexes, OCI's and Docker's (schema 2). Pure.

use serde::Deserialize;

use super::error::ManifestError;
use crate::digest::Digest;
use crate::image::ConfigBlob;

/// Media types that pulls accept.
pub(crate) const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Layers that overlayfs stacks at most (`OVL_MAX_STACK`).
pub(crate) const LAYER_LIMIT: usize = 500;

/// Reference to content.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub digest: Digest,
    pub size: u64,
    #[serde(default)]
    pub media_type: String,
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
    pub platform: Option<Platform>,
}

/// What a manifest of an index runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub variant: String,
}

/// An image manifest.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ImageManifest {
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

/// An image index or manifest list.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// What a manifest's bytes turned out to be.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Image(ImageManifest),
    Index(Index),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    schema_version: u64,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

impl Kind {
    /// Reads a manifest, by its media type or, where it has none, by its fields.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let json = |what| move |source| ManifestError::Json { what, source };
        let head: Head = serde_json::from_slice(bytes).map_err(json("manifest"))?;
        if !head.media_type.is_empty() && !ACCEPTED.contains(&head.media_type.as_str()) {
            return Err(ManifestError::MediaType(head.media_type));
        }
        if head.manifests.is_some() {
            return Ok(Self::Index(serde_json::from_slice(bytes).map_err(json("index"))?));
        }
        if head.config.is_none() {
            return Err(ManifestError::MediaType(format!(
                "schema version {}",
                head.schema_version
            )));
        }
        let manifest: ImageManifest = serde_json::from_slice(bytes).map_err(json("manifest"))?;
        manifest.check()?;
        Ok(Self::Image(manifest))
    }
}

impl ImageManifest {
    /// Bytes of configuration and layers as transferred.
    pub(crate) fn size(&self) -> u64 {
        let sizes = self.layers.iter().map(|layer| layer.size);
        sizes.fold(self.config.size, u64::saturating_add)
    }

    /// Refuses what can be told from the manifest alone to be no image that runs here.
    fn check(&self) -> Result<(), ManifestError> {
        if self.layers.len() > LAYER_LIMIT {
            return Err(ManifestError::TooManyLayers(self.layers.len()));
        }
        match self.layers.iter().find(|layer| !is_layer(&layer.media_type)) {
            Some(layer) => Err(ManifestError::LayerType(layer.media_type.clone())),
            None => Ok(()),
        }
    }

    /// The diff ids that a configuration blob lists for the manifest's layers.
    pub(crate) fn diff_ids(&self, config: &[u8]) -> Result<Vec<Digest>, super::PullError> {
        diff_ids(self.layers.len(), config).map_err(super::PullError::Manifest)
    }
}

/// Layers that are fetched from elsewhere (Windows), or encrypted, are not for here. Compression is told by the content,
/// and media types are not always right, so that unknown ones are tried.
fn is_layer(media_type: &str) -> bool {
    !media_type.contains(".foreign.") && !media_type.ends_with("+encrypted")
}

/// The diff ids of a configuration blob, which must be `layers` many.
pub(crate) fn diff_ids(layers: usize, config: &[u8]) -> Result<Vec<Digest>, ManifestError> {
    let blob: ConfigBlob = serde_json::from_slice(config).map_err(|source| ManifestError::Json {
        what: "configuration",
        source,
    })?;
    let diff_ids = blob.rootfs.diff_ids;
    if diff_ids.len() != layers {
        return Err(ManifestError::LayerCount {
            config: diff_ids.len(),
            manifest: layers,
        });
    }
    Ok(diff_ids)
}
