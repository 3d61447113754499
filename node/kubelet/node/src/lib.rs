//! The node's side of the kubelet: TLS bootstrap, registration, status, lease, HTTPS server.
//!
//! The order of use: [`ensure_client`] gives the node its identity and a client, [`NodeAgent::start`] registers the
//! node, keeps its status and lease, rotates its certificates and serves the kubelet's API. What it needs to know of
//! pods it asks a [`PodSource`].

mod agent;
mod bootstrap;
mod certificate;
mod config;
mod csinode;
mod error;
mod eviction;
mod garbage;
mod lease;
mod machine;
mod manifests;
mod node;
mod pods;
mod server;
mod shutdown;
mod status;

pub use agent::{NodeAgent, NodeDeps};
pub use bootstrap::{ensure_client, request_name};
pub use certificate::{CertificateStore, GivenCertificate, ServingCertificate};
pub use config::{DeviceCounts, NoDevices, NodeConfig, Reserved, TlsOptions};
pub use error::Error;
pub use eviction::{Amount, EvictionConfig, Signal, Threshold, ThresholdError, duration};
pub use garbage::ImageGcPolicy;
pub use machine::MachineInfo;
pub use manifests::ManifestUrl;
pub use node::{RuntimeInfo, initial_node};
pub use pods::{ClaimedVolume, EvictionCause, PodEviction, PodSource, ProbeCount, VolumeUsage};
pub use server::{logs, subresources};
pub use shutdown::{ShutdownConfig, ShutdownError, ShutdownGrace, ShutdownGraceError};
pub use status::{Conditions, Pressure, PressureState, status_patch};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;
