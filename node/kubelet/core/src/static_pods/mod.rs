//! Pods from manifests on the node's disk and from a URL, beside those of the API (upstream: `pkg/kubelet/config/file.go`,
//! `pkg/kubelet/pod/mirror_client.go`).
//!
//! [`start`] puts itself before the API: workers see static pods like any others, and what they write about them goes
//! to the mirror pods. Without an API server static pods run all the same.

mod api;
mod directory;
mod manifest;
mod mirror;
mod state;
mod url;

pub(crate) use api::start;
pub use url::{FetchedPods, ManifestSource};

/// Where a pod comes from: [`FILE`], [`HTTP`] or `api`.
pub(crate) const SOURCE: &str = "kubernetes.io/config.source";
/// A manifest on disk.
pub(crate) const FILE: &str = "file";
/// A manifest that was fetched.
pub(crate) const HTTP: &str = "http";
/// When the node first saw the pod.
pub(crate) const SEEN: &str = "kubernetes.io/config.seen";
/// Hash of the manifest, which is also the static pod's uid.
pub(crate) const HASH: &str = "kubernetes.io/config.hash";
/// The hash of the static pod that a pod of the API mirrors.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

#[cfg(test)]
mod tests;
