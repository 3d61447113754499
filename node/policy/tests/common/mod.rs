//! What the tests share: a small cluster, truth tables, a packet tracer, an oracle, a network of namespaces.
#![allow(dead_code, unused_imports, reason = "each test takes what it needs")]

pub mod api;
pub mod cases;
pub mod cluster;
pub mod net;
pub mod oracle;
pub mod random;
pub mod sctp;
pub mod tracer;

pub use knode_testkit::{in_fresh_netns, nft};
