//! Images from registries.

mod error;
mod layers;
mod manifest;
mod platform;
mod registry;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use error::{ManifestError, PullError};
pub use registry::{Auth, Registries};
pub(crate) use table::PullTable;

pub(crate) use manifest::{Descriptor, ImageManifest, Index, Kind, diff_ids};
pub(crate) use platform::choose;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::reference::Reference;
use crate::store::{ImageStore, Inner, LayerPlan, NewImage, SourceLayer};
use registry::Registry;

impl ImageStore {
    /// Pulls an image, which is usable and durable when this returns. Layers that are here are not fetched, several
    /// are fetched at once, and concurrent pulls of one image with one authentication are one pull, which goes on
    /// when a caller stops waiting.
    ///
    /// # Errors
    /// [`Error::Reference`], and [`Error::Pull`] with the registry's own reason in its chain.
    pub async fn pull(&self, reference: &str, auth: &Auth) -> Result<Image> {
        let reference = Reference::parse(reference)?;
        let inner = self.inner.clone();
        let (pulled, key) = (reference.clone(), (reference, auth.clone()));
        let auth = auth.clone();
        self.inner
            .pulls
            .join(key, async move { pull(inner, pulled, auth).await })
            .await
    }
}

async fn pull(inner: Arc<Inner>, reference: Reference, auth: Auth) -> Result<Image> {
    let started = std::time::Instant::now();
    let result = fetch(&inner, &reference, &auth).await;
    match &result {
        Ok(image) => {
            tracing::info!(image = %reference, id = %image.id, elapsed = ?started.elapsed(), "pulled")
        }
        Err(error) => tracing::debug!(image = %reference, error = crate::error::chain(error), "pull failed"),
    }
    result.map_err(|source| Error::Pull {
        image: reference.to_string(),
        source: Box::new(source),
    })
}

async fn fetch(inner: &Arc<Inner>, reference: &Reference, auth: &Auth) -> Result<Image, PullError> {
    let registry = Registry::connect(&inner.registries, reference, auth)?;
    let top = registry.resolve().await?;
    let repo_digest = reference.with_digest(&top.digest);
    let mut manifests = vec![top.bytes.clone()];
    let manifest = match top.parse()? {
        Kind::Image(manifest) => manifest,
        Kind::Index(index) => {
            let chosen = choose(&index).ok_or_else(|| PullError::NoPlatform(host_platform()))?;
            let inner = registry.manifest(&chosen).await?;
            manifests.push(inner.bytes.clone());
            inner.parse()?.image()?
        }
    };
    let config = registry.config(&manifest.config).await?;
    let diff_ids = manifest.diff_ids(&config)?;
    let plan = LayerPlan::new(inner, diff_ids);
    let layers = layers::fetch(inner, &registry, &manifest, &plan).await?;
    let new = NewImage {
        size: manifest.size() + manifests.iter().map(|bytes| bytes.len() as u64).sum::<u64>(),
        config,
        manifests,
        repo_tags: reference.tagged().into_iter().collect(),
        repo_digests: vec![repo_digest],
        layers,
    };
    let committed = inner.clone();
    let task = tokio::task::spawn_blocking(move || committed.commit(new));
    let image = task
        .await
        .map_err(|_| PullError::Store(Box::new(Error::TaskLost("commit"))))?;
    drop(plan);
    image.map_err(|error| PullError::Store(Box::new(error)))
}

/// A manifest or index as fetched, verified.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub bytes: Vec<u8>,
    pub digest: Digest,
}

impl Fetched {
    pub(crate) fn parse(&self) -> Result<Kind, PullError> {
        Kind::parse(&self.bytes).map_err(PullError::Manifest)
    }
}

/// Layers that are here, or `None` for those to fetch.
pub(crate) fn source_of(present: Option<u32>) -> Option<SourceLayer> {
    present.map(SourceLayer::Present)
}

/// This machine's platform, for messages.
pub(crate) fn host_platform() -> String {
    platform::host().to_string()
}
