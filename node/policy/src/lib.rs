//! NetworkPolicy (`networking.k8s.io/v1`) for the pods of this node, in nftables sets that change by element.
//!
//! [`model`] keeps what decides about packets, [`plan`] follows who is selected by whom, [`table`] turns that into
//! nftables, all without I/O; the rest reads the API, applies batches and watches the table.

pub mod convert;
pub mod model;
pub mod plan;
pub mod table;

mod apply;
mod edge;

pub use apply::{Applier, teardown};
pub use edge::{Announcements, Announcer, Error, PolicyConfig, announcements, run};
pub use knode_nft::Applied;
