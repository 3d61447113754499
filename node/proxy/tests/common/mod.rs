//! What the tests share: network namespaces, `ip` and `nft`, small models.
#![allow(dead_code, unused_imports, reason = "each test takes what it needs")]

pub mod api;
pub mod fixture;
pub mod hand;
pub mod history;
pub mod hosts;
pub mod net;
pub mod sctp;
pub mod tracer;
