//! The server on real sockets, asked by dig, and forwarding to real servers.

mod common;
mod open;
mod serve;
