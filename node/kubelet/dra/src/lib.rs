//! Dynamic resources on the node: claims of pods, made ready by their drivers (upstream: `pkg/kubelet/cm/dra`).
//!
//! [`claim`] is pure: which claims a pod has, and whether it may use them. [`Claims`] asks the drivers, and remembers
//! what they have made ready, so that a restart forgets nothing that is to be taken back.

mod checkpoint;
pub mod claim;
mod drivers;
mod error;
mod manager;
pub mod v1;

pub use checkpoint::{ClaimState, DeviceState};
pub use drivers::ByDirectory;
pub use error::ClaimsError;
pub use manager::{ClaimApi, Claims};
