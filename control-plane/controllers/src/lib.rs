//! Pure reconcile functions, one shared runner.
//!
//! Each controller is a module: a pure part that decides, and a thin one that reads caches and writes through
//! the client. None of them knows another; they meet in the API objects.

mod bootstrap_signer;
mod config;
mod csr;
mod daemon_set;
mod endpoint_slice;
mod error;
mod gc;
mod namespace;
mod node;
mod owner;
mod pod_gc;
#[cfg(test)]
mod recorded;
mod resource_claim;
mod root_ca;
mod runner;
mod service_account;
mod tokens;
mod unseen;
mod volume;

pub use config::{ControllersConfig, PodRange};
pub use error::{Error, Result};
pub use runner::run;
