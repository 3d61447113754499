//! Ending pods before the machine runs out of something (upstream: `pkg/kubelet/eviction`).
//!
//! [`EvictionState::step`](state::EvictionState::step), [`rank`](rank::rank) and [`message`](message::message) are pure
//! and decide everything; [`EvictionManager`] measures and carries out.

mod disk;
mod local;
mod manager;
mod message;
mod observe;
mod rank;
mod signal;
mod state;
#[cfg(test)]
mod tests;
mod threshold;

pub(crate) use disk::usage as disk_usage;
pub(crate) use manager::EvictionManager;
pub use signal::Signal;
pub use threshold::{Amount, EvictionConfig, Threshold, ThresholdError, duration};
