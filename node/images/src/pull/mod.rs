//! Images from registries.

mod error;
mod layers;
mod manifest;
mod platform;
mod progress;
mod source;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use error::{ManifestError, PullError};
pub(crate) use manifest::{Descriptor, ImageManifest, Index, Kind, diff_ids};
pub(crate) use platform::choose;
pub use progress::{LayerState, LayerStatus, PullEvent, PullPhase, PullStatus, PullTotals, Pulls};
pub(crate) use table::PullTable;

use crate::error::{Error, Result};
use crate::image::Image;
use crate::reference::Reference;
use crate::registry::Auth;
use crate::store::{ImageStore, Inner, LayerPlan, NewImage};
use progress::Progress;
use source::{Fetched, Source};

/// Indexes that may lead to one another before the image.
const INDEX_DEPTH: usize = 4;

impl ImageStore {
    /// Pulls an image, which is usable and durable when this returns. Layers that are here are not fetched, several
    /// are fetched at once, and concurrent pulls of one image with one authentication are one pull, which goes on
    /// when a caller stops waiting. Transfers that break off are taken up where they did.
    ///
    /// # Errors
    /// [`Error::Reference`], and [`Error::Pull`] with the registry's own reason in its chain.
    pub async fn pull(&self, reference: &str, auth: &Auth) -> Result<Image> {
        let reference = Reference::parse(reference)?;
        let inner = self.inner.clone();
        let (pulled, key) = (reference.clone(), (reference, auth.clone()));
        let auth = auth.clone();
        self.inner
            .joined
            .join(key, async move { pull(inner, pulled, auth).await })
            .await
    }

    /// The pulls under way, to be looked at and subscribed to.
    pub fn pulls(&self) -> Pulls {
        self.inner.pulls.clone()
    }
}

async fn pull(inner: Arc<Inner>, reference: Reference, auth: Auth) -> Result<Image> {
    let started = std::time::Instant::now();
    let progress = inner.pulls.begin(&reference);
    let result = fetch(&inner, &reference, &auth, &progress)
        .await
        .map_err(|source| Error::Pull {
            image: reference.to_string(),
            source: Box::new(source),
        });
    match &result {
        Ok(image) => {
            tracing::info!(image = %reference, id = %image.id, elapsed = ?started.elapsed(), "pulled")
        }
        Err(error) => tracing::debug!(image = %reference, error = error.chain(), "pull failed"),
    }
    progress.end(result.as_ref().err().map(Error::chain));
    result
}

async fn fetch(
    inner: &Arc<Inner>,
    reference: &Reference,
    auth: &Auth,
    progress: &Progress,
) -> Result<Image, PullError> {
    let source = Source::open(inner, reference, auth).await?;
    let (manifest, manifests) = find(&source).await?;
    let config = source.config(&manifest.config).await?;
    let diff_ids = manifest.diff_ids(&config)?;
    let plan = LayerPlan::new(inner, diff_ids);
    let present = plan.present.iter().map(Option::is_some);
    let layers = manifest.layers.iter().zip(present);
    progress.resolved(layers.map(|(layer, present)| (layer.digest.clone(), layer.size, present)));
    let layers = layers::fetch(inner, &source.repository, &manifest, &plan, progress).await?;
    progress.storing();
    let new = NewImage {
        size: manifest.size()
            + manifests
                .iter()
                .map(|fetched| fetched.bytes.len() as u64)
                .sum::<u64>(),
        config,
        repo_tags: reference.tagged().into_iter().collect(),
        repo_digests: manifests
            .first()
            .map(|top| reference.with_digest(&top.digest))
            .into_iter()
            .collect(),
        manifests: manifests.into_iter().map(|fetched| fetched.bytes).collect(),
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

/// The manifest of the image for this machine, and everything on the way to it, what the reference names first.
async fn find(source: &Source) -> Result<(ImageManifest, Vec<Fetched>), PullError> {
    let mut way = vec![source.resolve().await?];
    loop {
        let last = way
            .last()
            .map(|fetched| fetched.bytes.as_slice())
            .unwrap_or_default();
        match Kind::parse(last).map_err(PullError::Manifest)? {
            Kind::Image(manifest) => return Ok((manifest, way)),
            Kind::Index(_) if way.len() > INDEX_DEPTH => {
                return Err(PullError::Manifest(ManifestError::NestedIndex(INDEX_DEPTH)));
            }
            Kind::Index(index) => {
                let chosen = choose(&index).ok_or_else(|| PullError::NoPlatform(host_platform()))?;
                way.push(source.manifest(&chosen).await?);
            }
        }
    }
}

/// This machine's platform, for messages.
pub(crate) fn host_platform() -> String {
    platform::host().to_string()
}
