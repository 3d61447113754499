//! D-Bus, small: messages, a client of a bus, and calls to a peer without a bus between.
//!
//! The protocol is version 1 of <https://dbus.freedesktop.org/doc/dbus-specification.html>, little endian.

mod auth;
mod connection;
mod error;
mod message;
mod peer;
pub mod systemd;
mod wire;

pub use connection::{Connection, Received};
pub use error::DbusError;
pub use message::{FIXED, Kind, MAX_BYTES, Message};
pub use peer::Peer;
pub use wire::{Malformed, Reader, Writer};
