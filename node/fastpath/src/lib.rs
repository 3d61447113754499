//! A short cut for packets of connections that are under way between pods of different hosts.
//!
//! ```text
//!            pod ═ veth ── bridge ── forwarding, filters ── flannel.1 ── eth0     first packets, last packets,
//!                   │                                                    │        everything that is translated
//!                   └──────────── established ── wrapped, unwrapped ─────┘        the rest
//! ```
//! Whatever begins, ends, is translated, filtered, limited or cut into fragments goes the long way, so that services,
//! policies and connection tracking mean what they meant. A packet takes the short cut only if connection tracking
//! knows its connection as established in both directions, without translation and helper, and has seen it lately;
//! where it goes is asked of the kernel's own routing table. A VXLAN in IPv4 is no detour either: programs write and
//! remove its headers; what arrives for a pod that passes it on, and IPv6, is left to the tunnel's device. When the process ends the short cut ends with it, and
//! everything goes the long way.

mod conntrack;
mod error;
mod fastpath;
mod packet;
mod pods;
mod program;
mod table;
mod tunnels;

pub use conntrack::Trust;
pub use error::{Error, Result};
pub use fastpath::FastPath;
