//! From leases to what the kernel should hold, and the steps to get there; pure.

mod desired;
mod diff;
#[cfg(test)]
mod tests;

pub use desired::{Desired, Device, Path, Peer, Tunnel};
pub(crate) use desired::{alone, blackhole, device_names, ipip_device, is_blackhole};
pub(crate) use diff::is_direct_route;
pub use diff::{Observed, Step, plan};
