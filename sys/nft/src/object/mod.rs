//! The objects of a ruleset as values.

mod chain;
mod counter;
mod element;
mod key;
mod rule;
mod set;
mod table;
mod verdict;

pub use chain::{Chain, ChainKind, Hook, HookSpec, Policy};
pub use counter::Count;
pub use element::{Data, Element};
pub use key::{FieldType, KeyType};
pub use rule::Rule;
pub use set::{Set, SetData};
pub use table::{Family, TableRef};
pub use verdict::Verdict;

pub(crate) use chain::NFTA_CHAIN_NAME;
pub(crate) use element::pair_intervals;
pub(crate) use rule::{NFTA_RULE_CHAIN, NFTA_RULE_HANDLE};
pub(crate) use set::NFTA_SET_NAME;

/// `NFTA_*_TABLE`, `NFTA_TABLE_NAME`: the same in every object.
pub(crate) const NFTA_TABLE: u16 = 1;
