//! Why a pull fails. The texts are upstream containerd's where it has one.

use crate::digest::Digest;
use crate::error::Error;
use crate::registry::HostsError;
use crate::unpack::UnpackError;

/// A failed step of a pull.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The reference could not be resolved at its registry.
    #[error("failed to resolve image: {0}")]
    Resolve(String),
    /// The registry has nothing under this reference.
    #[error("failed to resolve image: {0}")]
    Absent(String),
    /// The configuration of this registry cannot be used.
    #[error("invalid configuration of registry {registry:?}")]
    Registry {
        /// The registry.
        registry: String,
        /// What is wrong with it.
        #[source]
        source: HostsError,
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
    /// Indexes that point to indexes, deeper than anyone means, or in a circle.
    #[error("indexes point to one another more than {0} deep")]
    NestedIndex(usize),
    /// More layers than overlayfs can stack.
    #[error("unsupported: {0} layers, overlayfs takes at most {max}", max = super::manifest::LAYER_LIMIT)]
    TooManyLayers(usize),
    /// A layer that is fetched from elsewhere or cannot be read.
    #[error("unsupported: layer of media type {0:?}")]
    LayerType(String),
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
    /// Something of another size than its descriptor says.
    #[error("{what} has {found} bytes, expected {expected}")]
    Size {
        /// Manifest or configuration.
        what: &'static str,
        /// Bytes that came.
        found: u64,
        /// As promised.
        expected: u64,
    },
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
