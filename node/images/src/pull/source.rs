//! Manifests and configurations of one image: out of the store where it has them, or else from the registry.

use std::sync::Arc;

use super::error::{ManifestError, PullError};
use super::manifest::{ACCEPTED, Descriptor};
use crate::digest::Digest;
use crate::reference::Reference;
use crate::registry::{Auth, Repository, RequestError};
use crate::store::Inner;

/// Largest manifest and configuration that are read into memory.
pub(super) const METADATA_LIMIT: u64 = 8 << 20;

/// A manifest, index or configuration, verified.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub bytes: Vec<u8>,
    pub digest: Digest,
}

/// Where an image comes from.
pub(super) struct Source {
    pub repository: Arc<Repository>,
    store: Arc<Inner>,
    reference: Reference,
    accepted: String,
}

impl Source {
    /// Reads how the registry is reached. Nothing is sent yet.
    pub(super) async fn open(
        store: &Arc<Inner>,
        reference: &Reference,
        auth: &Auth,
    ) -> Result<Self, PullError> {
        let repository = Repository::open(&store.registries, reference, auth).await;
        let repository = repository.map_err(|source| PullError::Registry {
            registry: reference.domain.clone(),
            source,
        })?;
        Ok(Self {
            repository,
            store: store.clone(),
            reference: reference.clone(),
            accepted: ACCEPTED.join(", "),
        })
    }

    /// Fetches what the reference names. It costs one small question where the store has what it leads to: what is
    /// here may be another's, and whether the credentials open it only the registry knows.
    pub(super) async fn resolve(&self) -> Result<Fetched, PullError> {
        let name = self.name();
        let told = |error: &RequestError| match error.is_absent() {
            true => PullError::Absent(self.told(error, &name)),
            false => PullError::Resolve(self.told(error, &name)),
        };
        let wanted = self.reference.digest.as_ref();
        let here = match wanted {
            Some(digest) => self.local(digest).await,
            None => None,
        };
        let promised = match wanted.filter(|_| here.is_none()) {
            // What is not here is fetched at once.
            Some(digest) => Some(digest.clone()),
            None => match self.repository.head(&name, &self.accepted).await {
                Ok(promised) => wanted.cloned().or(promised),
                Err(error @ RequestError::Unauthorized(_)) => return Err(told(&error)),
                Err(error) if error.is_transport() => return Err(told(&error)),
                // What is wrong is told better in the answer to the question itself, which has a body.
                Err(_) => None,
            },
        };
        if let Some(digest) = &promised
            && let Some(bytes) = self.local(digest).await
        {
            return Ok(Fetched {
                bytes,
                digest: digest.clone(),
            });
        }
        let name = promised.as_ref().map_or(name.as_str(), Digest::as_str);
        let found = self
            .repository
            .manifest(name, &self.accepted, METADATA_LIMIT)
            .await
            .map_err(|error| told(&error))?;
        let promised = promised.as_ref().or(wanted);
        check("manifest", found.bytes, promised.or(found.promised.as_ref()))
    }

    /// Fetches a manifest that an index names.
    pub(super) async fn manifest(&self, descriptor: &Descriptor) -> Result<Fetched, PullError> {
        let digest = &descriptor.digest;
        if let Some(bytes) = self.local(digest).await {
            return check("manifest", bytes, Some(digest));
        }
        let found = self
            .repository
            .manifest(digest.as_str(), &self.accepted, METADATA_LIMIT)
            .await
            .map_err(|error| failed_copy(descriptor, &error))?;
        check_size("manifest", &found.bytes, descriptor)?;
        check("manifest", found.bytes, Some(digest))
    }

    /// Fetches the image's configuration.
    pub(super) async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, PullError> {
        let digest = &descriptor.digest;
        if descriptor.size > METADATA_LIMIT {
            return Err(PullError::Manifest(ManifestError::ConfigSize(descriptor.size)));
        }
        let bytes = match self.local(digest).await {
            Some(bytes) => bytes,
            None => self
                .repository
                .blob(digest, descriptor.size)
                .whole()
                .await
                .map_err(|error| failed_copy(descriptor, &error))?,
        };
        check_size("configuration", &bytes, descriptor)?;
        Ok(check("configuration", bytes, Some(digest))?.bytes)
    }

    /// The blob with this digest, if the store has it whole.
    async fn local(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = tokio::fs::read(self.store.layout.blob(digest)).await.ok()?;
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    /// What is asked for at the registry: the digest, or else the tag.
    fn name(&self) -> String {
        let digest = self.reference.digest.as_ref().map(Digest::to_string);
        let tag = || self.reference.tag.clone().unwrap_or_else(|| "latest".to_owned());
        digest.unwrap_or_else(tag)
    }

    fn told(&self, error: &RequestError, name: &str) -> String {
        match error.is_transport() {
            true => {
                let url = self.repository.manifest_url(name);
                format!("failed to do request: Head {url:?}: {error}")
            }
            false => format!("{}: {}", self.reference, error.told()),
        }
    }
}

/// A request for content that failed.
pub(super) fn failed_copy(descriptor: &Descriptor, error: &RequestError) -> PullError {
    PullError::Fetch {
        digest: descriptor.digest.clone(),
        reason: error.told(),
    }
}

fn check_size(what: &'static str, bytes: &[u8], descriptor: &Descriptor) -> Result<(), PullError> {
    let found = bytes.len() as u64;
    match found == descriptor.size {
        true => Ok(()),
        false => Err(PullError::Manifest(ManifestError::Size {
            what,
            found,
            expected: descriptor.size,
        })),
    }
}

fn check(what: &'static str, bytes: Vec<u8>, expected: Option<&Digest>) -> Result<Fetched, PullError> {
    let found = Digest::of(&bytes);
    match expected {
        Some(expected) if *expected != found => Err(PullError::Manifest(ManifestError::Digest {
            what,
            found,
            expected: expected.clone(),
        })),
        _ => Ok(Fetched { bytes, digest: found }),
    }
}
