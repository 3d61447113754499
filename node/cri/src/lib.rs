//! CRI v1 messages, the two service traits, adapters to and from a socket.
//!
//! [`RuntimeService`] and [`ImageService`] are what a container engine offers. Whoever needs one holds an
//! `Arc<dyn …>` and does not know whether the engine sits in the same process or behind a unix socket
//! ([`client::connect`]); [`server::serve`] offers any implementation to other programs.

pub mod client;
mod error;
mod methods;
mod observed;
mod parts;
mod redact;
pub mod server;
mod service;
#[cfg(test)]
mod tests;
pub mod v1;

pub use error::{Code, CriError, CriResult, chain};
pub use observed::{Observed, Observer};
pub use service::{ContainerEvents, ImageService, RuntimeService};
pub use v1::*;

/// Name of the API as `Version` answers it.
pub const API_VERSION: &str = "v1";

/// Largest message either side takes, in bytes (what the kubelet and its runtimes agree on).
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
