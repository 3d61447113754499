//! The thin edge: API watches in, netlink out, health and metrics beside.

mod config;
mod convert;
mod error;
mod feed;
mod http;
mod metrics;
mod node;
mod objects;
mod run;
mod service_health;
mod sysctl;

pub use config::{ProxyConfig, ProxyOptions};
pub use error::Error;
pub use run::run;
pub use sysctl::ConntrackLimits;
