use std::net::IpAddr;

use super::keys::{ChainKey, Member, SetKey, Shape};

/// What went and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta<T> {
    /// What went.
    pub old: Vec<T>,
    /// What came.
    pub new: Vec<T>,
}

impl<T> Default for Delta<T> {
    fn default() -> Self {
        Self {
            old: Vec::new(),
            new: Vec::new(),
        }
    }
}

/// An address of this node leads elsewhere; by direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictChange {
    /// The address.
    pub ip: IpAddr,
    /// Where it led.
    pub old: [Option<Shape>; 2],
    /// Where it leads.
    pub new: [Option<Shape>; 2],
}

/// What differs from the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sets; those that came have the members that the plan says.
    pub sets: Delta<SetKey>,
    /// Members of the other sets.
    pub members: Vec<(SetKey, Delta<Member>)>,
    /// Chains; what they lead to comes before them.
    pub chains: Delta<ChainKey>,
    /// Chains whose rules are others.
    pub rewritten: Vec<ChainKey>,
    /// Addresses of this node.
    pub verdicts: Vec<VerdictChange>,
}

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
