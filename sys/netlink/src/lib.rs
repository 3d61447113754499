//! Typed route netlink: links, addresses, routes, neighbours, FDB; namespaces.
//!
//! A change is a [`Request`]: a printable value that names its operation and object. A [`Handle`] executes
//! requests, several in one system call, and dumps what is there. [`Events`] tells of changes by others.
//!
//! The kernel carries a request out inside `sendmsg`, under a lock of its own: calls of [`Handle`] block, and
//! async callers wrap a whole sequence in one `spawn_blocking`.

#![allow(unsafe_code)]

mod announce;
mod error;
pub mod ethtool;
mod events;
pub mod generic;
mod handle;
mod model;
mod netns;
mod readiness;
mod request;
mod settle;
pub mod sysctl;
mod transport;

pub use announce::announce;
pub use error::{Error, Result, Tolerate};
pub use events::{Event, Events, Topic};
pub use handle::Handle;
pub use model::{
    Address, FdbEntry, IpTunnel, Link, LinkKind, MacAddr, Neighbour, ParseMacError, Route, RouteScope, Rule,
    Vxlan, is_link_name,
};
pub use netns::Netns;
pub use readiness::Readiness;
pub use request::{
    BridgeSpec, LinkChange, LinkRef, Request, VethSpec, add_address, add_bridge, add_fdb, add_ipip,
    add_neighbour, add_route, add_rule, add_veth, add_vxlan, add_wireguard, change_link, delete_address,
    delete_fdb, delete_group, delete_link, delete_neighbour, delete_route, delete_rule, replace_address,
    replace_fdb, replace_neighbour, replace_route,
};
pub use request::{TokenBucket, add_ifb, add_ingress, redirect_ingress, set_token_bucket};
pub use settle::{settle, settle_link};
