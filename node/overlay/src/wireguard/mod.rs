//! The WireGuard backend (`pkg/backend/wireguard`): devices, their routes and peers.

mod edge;
mod key_file;
mod plan;

pub(crate) use edge::{Devices, concerned};
pub(crate) use key_file::key_file;
pub(crate) use plan::{Wanted, desired, mtu, ports};
