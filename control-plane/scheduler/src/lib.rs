//! Pure filter and score, thin binder.
//!
//! [`decide`] is the whole of scheduling as a function of pods and nodes; [`run`] feeds it from watches and carries
//! out what it says. Filters, their order and their messages follow upstream's default profile. Not implemented:
//! preemption, inter-pod affinity and topology spread; pods that require one of those stay pending with a
//! message that names it.

mod backlog;
mod bind;
mod cluster;
mod decide;
mod events;
mod filter;
mod message;
mod model;
mod patch;
mod runner;
mod score;

pub use cluster::Cluster;
pub use decide::{Verdict, decide};
pub use filter::Change;
pub use model::{Node, Pod, Resources};
pub use runner::run;

/// The scheduler name that pods get by default.
pub const NAME: &str = "default-scheduler";
