//! Registries: where they are, how they are spoken to, and what is read from them.
//!
//! [`hosts`] says which endpoints serve a registry (mirrors, authorities: containerd's `hosts.toml`), [`http`] speaks
//! HTTP/1.1 to them, [`auth`] answers their challenges, and [`Repository`] reads manifests and blobs, trying again and
//! going on where a transfer broke off.

mod auth;
mod blob;
mod config;
mod docker_config;
mod error;
mod hosts;
mod http;
mod repository;
mod retry;

pub use auth::Auth;
pub(crate) use auth::fuzz as fuzz_challenge;
pub(crate) use blob::Piece;
pub use config::{Registries, Timeouts};
pub use docker_config::DockerConfig;
pub(crate) use error::RequestError;
pub use error::{HostsError, RegistryError};
pub(crate) use hosts::fuzz as fuzz_hosts;
pub(crate) use repository::Repository;
pub use retry::RetryPolicy;
