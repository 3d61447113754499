//! Device plugins: which devices there are, which container has which; the pod-resources API.
//!
//! [`table::Table`] is pure and decides everything: what there is, who gets what, what is given back. [`Devices`] talks
//! with the plugins, remembers in a checkpoint of upstream's form, and serves registration. [`pod_resources`] tells
//! others what containers were given.

mod asked;
mod checkpoint;
mod manager;
pub mod pod_resources;
mod serve;
pub mod table;
pub mod v1beta1;

pub use asked::{Asked, Part};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use manager::{ByDirectory, Devices, DevicesConfig, DevicesError, Rejected};
pub use table::{AllocationError, Count, RunOptions};
