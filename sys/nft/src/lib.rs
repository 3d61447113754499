//! nf_tables by netlink: printable rulesets, atomic batches, dumps, change notices.
//!
//! A [`Batch`] collects commands over one [`TableRef`] and [`Socket::commit`] applies all of them or none.
//! What the kernel holds is read back into the same value types, so a plan and the kernel can be compared.
//! [`conntrack`] lists and deletes tracked flows over the same netlink family; [`iptables`] runs the older programs
//! for hosts that demand them.
#![allow(unsafe_code)]

pub mod conntrack;
pub mod iptables;

mod applied;
mod batch;
mod counters;
mod dump;
mod error;
mod expr;
mod family;
mod monitor;
mod object;
mod print;
mod ruleset;
mod socket;
mod watch;
mod wire;

pub use applied::Applied;
pub use batch::Batch;
pub use dump::Listed;
pub use error::Error;
pub use expr::{
    CmpOp, CtDir, CtKey, DynsetOp, Expr, FibFlags, FibResult, MetaKey, NatFlags, NatKind, PayloadBase, Reg,
    RejectKind, matching,
};
pub use family::IpFamily;
pub use monitor::{Monitor, Notice, Subject};
pub use object::{
    Chain, ChainKind, Count, Data, Element, Family, FieldType, Hook, HookSpec, KeyType, Policy, Rule, Set,
    SetData, TableRef, Verdict,
};
pub use ruleset::{Held, Ruleset};
pub use socket::Socket;
pub use watch::Watcher;
