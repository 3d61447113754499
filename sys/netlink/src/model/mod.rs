//! What is in the kernel, as plain values.

mod address;
mod link;
mod mac;
mod neighbour;
mod route;
mod rule;

pub use address::Address;
pub use link::{IpTunnel, Link, LinkKind, Vxlan, is_link_name};
pub use mac::{MacAddr, ParseMacError};
pub use neighbour::{FdbEntry, Neighbour};
pub use route::{Route, RouteScope};
pub use rule::Rule;
