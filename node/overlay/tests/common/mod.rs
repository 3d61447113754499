//! Hosts as network namespaces on one switch, pods as namespaces behind them, and a lease store in memory.

#![allow(dead_code, unused_imports)]

mod capture;
mod host;
mod leases;
mod ping;
mod traffic;

pub use capture::{Capture, Frame};
pub use host::{Fabric, Host, Pod};
pub use leases::Cluster;
pub use ping::ping;
pub use traffic::{ask, datagram, serve_tcp, serve_udp};

use std::time::{Duration, Instant};

/// Waits until `probe` gives a value; fails with what `seen` shows.
pub fn eventually<T>(
    what: &str,
    bound: Duration,
    mut probe: impl FnMut() -> Option<T>,
    seen: impl Fn() -> String,
) -> T {
    let end = Instant::now() + bound;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(
            Instant::now() < end,
            "{what} did not come within {bound:?}; seen: {}",
            seen()
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
