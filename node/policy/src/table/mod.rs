//! From the plan to nftables: a table for each family, and the batches that change it.
//!
//! Two chains judge each packet that is forwarded, one by its source and one by its destination. `from-pod`
//! and `to-pod` lead from the address of a pod that policies select to the chain of its shape, which asks the chains of
//! these policies and drops what none has accepted. To accept in one of the two leaves the other its say.

mod actual;
mod chains;
mod elements;
mod incremental;
mod layout;
mod repair;
mod ruleset;

pub use actual::Actual;
pub use elements::{Found, SELF, elements, verdict_map};
pub use incremental::batch;
pub use layout::table;
pub use repair::repair;
pub use ruleset::ruleset;

/// The name of the tables.
pub const NAME: &str = "knode-policy";
