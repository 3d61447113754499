//! Service proxy: Services and EndpointSlices to nftables.
//!
//! [`model`] keeps what decides about packets, [`plan`] turns it into frontends and targets, [`table`] into
//! nftables, all without I/O; the rest reads the API, applies batches and watches the table.

pub mod config;
pub mod inspect;
pub mod model;
pub mod plan;
pub mod table;

mod apply;
mod edge;

pub use apply::{Applied, Applier, teardown};
pub use edge::{ConntrackLimits, Error, ProxyConfig, ProxyOptions, run};
