//! The built-in pod network: a bridge, a virtual cable per pod, addresses of the node's subnet.
//!
//! ```text
//! host: cni0 (first address of the subnet, routes) ── veth<hash> ══ eth0 :pod
//! ```
//! What is in the kernel and in the lease directory is the state; a new process takes it up as it is.

mod attach;
mod bandwidth;
mod bridge;
mod cni;
mod config;
mod error;
mod hostport;
mod ipam;
mod leaving;
mod masquerade;
mod name;
mod network;

pub use attach::Attachment;
pub use bandwidth::{Bandwidth, RateLimit};
pub use cni::{Answer as CniAnswer, plugin as cni_plugin, process as cni_process};
pub use config::{AddRequest, Config, PortMapping, Protocol, Subnet};
pub use error::{Error, Result};
pub use hostport::TABLE as HOST_PORT_TABLE;
pub use masquerade::{ensure as ensure_masquerade, remove as remove_masquerade};
pub use network::{PodNet, Status, teardown};
