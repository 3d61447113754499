//! The CNI client: executes the network plugins that a directory of configurations names, as libcni and the engines
//! over it do (specification 1.1.0; `libcni/{conf,api}.go`).
//!
//! ```text
//! conf dir ──Snapshot──▶ load ──NetworkList──▶ Chain ──Call──▶ exec ──answer──▶ Chain ─▶ result, cache
//! ```
//! What decides is pure: loading ([`load`]), one call's environment and input, the chain of calls with its way back,
//! and results. Reading, executing and the cache are thin.

mod attachment;
mod cache;
mod call;
mod capabilities;
mod chain;
mod config;
mod directory;
mod error;
mod exec;
mod network;
mod result;
mod version;

pub use attachment::Attachment;
pub use call::Command;
pub use capabilities::{Bandwidth, Capabilities, Dns, PortMapping};
pub use config::{Broken, ConfFile, ConfigError, Loaded, Network, NetworkList, Plugin, Snapshot, load};
pub use error::{CallError, Error, Failure, PluginError, Result};
pub use network::{Cni, Collected, Config};
pub use result::{Attached, ResultError};
pub use version::{Version, VersionError};
