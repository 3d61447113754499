//! What this build calls itself.

/// The Kubernetes version whose behaviour and API this build follows, with our own build metadata: what `/version` and the Node object say.
pub const GIT_VERSION: &str = concat!("v1.36.2+knode", env!("CARGO_PKG_VERSION"));

/// For `knode --version`.
pub const FULL: &str = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes v1.36.2)");
