//! Why a pull fails. The texts are upstream containerd's where it has one.

use oci_client::errors::OciDistributionError;

use crate::digest::Digest;
use crate::error::Error;
use crate::unpack::UnpackError;

/// A failed step of a pull.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The reference could not be resolved at its registry.
    #[error("failed to resolve image: {0}")]
    Resolve(String),
    /// The client for this registry could not be made.
    #[error("cannot make a client for registry {registry:?}: {reason}")]
    Client {
        /// The registry.
        registry: String,
        /// The HTTP client's reason.
        reason: String,
    },
    /// A blob or a manifest behind an index could not be fetched.
    #[error("failed to copy {digest}: {reason}")]
    Fetch {
        /// The blob.
        digest: Digest,
        /// The registry's or the connection's reason.
        reason: String,
    },
    /// A manifest or configuration that cannot be used.
    #[error("invalid image")]
    Manifest(#[source] ManifestError),
    /// The index has no image for this machine.
    #[error("no match for platform in manifest: {0}: not found")]
    NoPlatform(String),
    /// A layer that could not be unpacked.
    #[error("failed to extract layer {digest}")]
    Unpack {
        /// The layer's blob.
        digest: Digest,
        /// The reason.
        #[source]
        source: UnpackError,
    },
    /// The store refused the image.
    #[error("cannot store the image")]
    Store(#[source] Box<Error>),
    /// A task ended without a result.
    #[error("the {0} task ended early")]
    TaskLost(&'static str),
}

/// What is wrong with a manifest, an index or a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not the JSON that it should be.
    #[error("cannot read the {what}")]
    Json {
        /// Manifest, index or configuration.
        what: &'static str,
        /// The parser's reason.
        #[source]
        source: serde_json::Error,
    },
    /// A media type of something else: an artifact, a schema 1 manifest.
    #[error("unsupported media type {0:?}")]
    MediaType(String),
    /// An index that points to an index.
    #[error("the index points to another index")]
    NestedIndex,
    /// The configuration lists another number of layers than the manifest.
    #[error("mismatched image rootfs and manifest layers: {config} and {manifest}")]
    LayerCount {
        /// Layers in the configuration.
        config: usize,
        /// Layers in the manifest.
        manifest: usize,
    },
    /// A configuration beyond any sensible size.
    #[error("the configuration has {0} bytes, more than 8 MiB")]
    ConfigSize(u64),
    /// The content is not what its digest says.
    #[error("{what} has digest {found}, expected {expected}")]
    Digest {
        /// Manifest or configuration.
        what: &'static str,
        /// As computed.
        found: Digest,
        /// As promised.
        expected: Digest,
    },
}

/// A registry's answer in the words of the registry.
pub(crate) fn reason(error: &OciDistributionError) -> String {
    match error {
        OciDistributionError::RegistryError { envelope, .. } => {
            let told = envelope.errors.iter().map(|error| {
                let code = serde_json::to_value(&error.code).ok();
                let code = code.as_ref().and_then(|code| code.as_str()).unwrap_or("UNKNOWN").to_lowercase();
                match error.message.is_empty() {
                    true => code,
                    false => format!("{}: {}", code.replace('_', " "), error.message),
                }
            });
            told.collect::<Vec<_>>().join("; ")
        }
        OciDistributionError::ServerError { code, message, .. } => {
            let message = message.trim();
            let head: String = message.chars().take(300).collect();
            format!("unexpected status {code}: {head}")
        }
        OciDistributionError::UnauthorizedError { .. } => {
            "pull access denied, repository does not exist or may require authorization: authorization failed: \
             no basic auth credentials or wrong ones"
                .to_owned()
        }
        OciDistributionError::AuthenticationFailure(answer) => format!("failed to authorize: {}", answer.trim()),
        OciDistributionError::RequestError(error) => transport(error),
        other => with_sources(other),
    }
}

/// True for the answers that mean "not here".
pub(crate) fn is_absent(error: &OciDistributionError) -> bool {
    use oci_client::errors::OciErrorCode::{BlobUnknown, ManifestUnknown, NameUnknown, NotFound};
    match error {
        OciDistributionError::RegistryError { envelope, .. } => {
            let absent = |code| matches!(code, &BlobUnknown | &ManifestUnknown | &NameUnknown | &NotFound);
            envelope.errors.iter().any(|error| absent(&error.code))
        }
        OciDistributionError::ServerError { code, .. } => *code == 404,
        OciDistributionError::ImageManifestNotFoundError(_) => true,
        _ => false,
    }
}

/// The innermost cause of a failed request says most: `connection refused`, a TLS alert.
fn transport(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let next = inner.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = inner.source();
    }
    text
}
