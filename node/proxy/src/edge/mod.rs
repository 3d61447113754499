//! The thin edge: API watches in, netlink out, health and metrics beside.

mod config;
mod convert;
mod error;
mod feed;
mod http;
mod metrics;
mod objects;
mod run;

pub use config::ProxyConfig;
pub use error::Error;
pub use run::run;
