//! OCI images and overlayfs snapshots.
//!
//! [`ImageStore`] holds images, pulled from registries or imported from archives; [`Snapshots`] makes writable root
//! file systems of them. The crate knows nothing of Kubernetes or CRI.

mod archive;
mod digest;
mod durable;
mod error;
pub mod fuzz;
mod image;
#[cfg(test)]
mod mutate;
mod pull;
mod reference;
mod registry;
mod snapshot;
mod store;
mod unpack;

pub use archive::{ArchiveError, DirectoryReport};
pub use digest::Digest;
pub use error::{Error, Result};
pub use image::{Image, ImageConfig, Usage};
pub use pull::{
    LayerState, LayerStatus, ManifestError, PullError, PullEvent, PullPhase, PullStatus, PullTotals, Pulls,
};
pub use reference::{Reference, ReferenceError};
pub use registry::{Auth, DockerConfig, HostsError, Registries, RegistryError, RetryPolicy, Timeouts};
pub use snapshot::{Snapshot, Snapshots, directory_usage, teardown};
pub use store::{FsUsage, ImageStore, StoreConfig};
pub use unpack::UnpackError;
