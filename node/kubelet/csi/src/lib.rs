//! The node's side of CSI: drivers as they register, staging and publishing for pods.
//!
//! [`Csi`] is what volumes ask ([`knode_volumes::Drivers`]) and what drivers register with. What is staged and
//! published is read from the disk, in upstream's layout, so that it outlives the daemon and an exchange of kubelets:
//! `plugins/kubernetes.io/csi/<driver>/<sha>/globalmount`, `pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount`,
//! each with its `vol_data.json`.

mod client;
mod csi;
mod layout;
mod mount;
mod node;
mod plan;
mod release;
mod usage;
pub mod v1;

pub use csi::{Csi, CsiConfig, RegisterError};
