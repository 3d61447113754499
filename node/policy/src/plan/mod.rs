//! Who is selected by whom: followed event by event, so that a pod that comes or goes costs what it concerns.
//!
//! A local pod that policies select leads to a [`Shape`], the list of these policies; a shape leads to the policies'
//! rules; rules ask sets ([`SetKey`]) whose members are addresses. What nobody uses any more is dropped when the
//! changes are taken, so that what comes back in between costs nothing.

mod changes;
mod keys;
mod peers;
mod planner;
mod pool;
mod rules;
mod store;
mod targets;

pub use changes::{Changes, Delta, VerdictChange};
pub use keys::{ChainKey, Member, NamedPorts, Scope, SetKey, Shape};
pub use planner::{Needs, Planner, PodsNeed};
