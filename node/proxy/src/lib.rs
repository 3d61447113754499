//! Service proxy: Services and EndpointSlices to nftables.
//!
//! [`model`] keeps what decides about packets, [`plan`] turns it into frontends and targets, [`table`] into
//! nftables, [`iptables`] into upstream's chains, all without I/O; the rest reads the API, applies what changed and
//! watches what others do to it.

pub mod config;
pub mod inspect;
pub mod iptables;
pub mod model;
pub mod plan;
pub mod table;

mod apply;
mod edge;

pub use apply::{Applier, CleanupError, IptablesApplier, IptablesError, ServiceCount, cleanup, teardown};
pub use edge::{ConntrackLimits, Error, ProxyConfig, ProxyMode, ProxyOptions, run};
pub use knode_nft::Applied;
