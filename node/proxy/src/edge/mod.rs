//! The thin edge: API watches in, netlink out, health and metrics beside.

mod backend;
mod config;
mod convert;
mod error;
mod feed;
mod http;
mod leftovers;
mod metrics;
mod node;
mod objects;
mod run;
mod service_health;
mod sysctl;

pub use config::{ProxyConfig, ProxyMode, ProxyOptions};
pub use error::Error;
pub use run::run;
pub use sysctl::ConntrackLimits;
