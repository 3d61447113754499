//! A thread in a fresh network namespace, and `nft` to look with.

#[allow(unused_imports, reason = "each test takes what it needs")]
pub use knode_testkit::{in_fresh_netns, nft, run};
