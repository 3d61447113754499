use std::collections::BTreeMap;
use std::fmt;

/// A table of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `filter`.
    Filter,
    /// `nat`.
    Nat,
    /// `mangle`.
    Mangle,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Mangle => "mangle",
        })
    }
}

/// The rules of a chain in order, each without `-A CHAIN`.
pub type Rules = Vec<String>;

/// Chains of one table.
pub type Chains = BTreeMap<String, Rules>;
