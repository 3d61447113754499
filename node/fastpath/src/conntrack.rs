//! How long connection tracking's word is taken for a connection it has not looked at itself.

use std::io;

use nix::time::{ClockId, clock_getres};

use crate::error::{Error, Result};

const TCP: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";
const UDP: &str = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream";
/// An entry is renewed that often at least, seconds: so much sooner than without the short cut may a connection that
/// fell silent be forgotten.
const RENEWED: u32 = 30;

/// Ticks that an entry must have left to live for its connection's packets to pass beside connection tracking; one
/// with less goes through it, which renews the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trust {
    /// Established TCP.
    pub tcp: u32,
    /// UDP answered more than once.
    pub udp: u32,
}

impl Trust {
    /// By the settings of the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::Timeout`].
    pub fn read() -> Result<Self> {
        let hertz = hertz();
        Ok(Self {
            tcp: least(seconds(TCP)?, hertz),
            udp: least(seconds(UDP)?, hertz),
        })
    }
}

/// Ticks left of a timeout in seconds at which an entry must be renewed: [`RENEWED`] after it began, or after a
/// quarter of a short one.
fn least(timeout: u32, hertz: u32) -> u32 {
    let trusted = RENEWED.min(timeout / 4);
    let ticks = u64::from(timeout - trusted) * u64::from(hertz);
    u32::try_from(ticks).unwrap_or(u32::MAX).min(i32::MAX as u32)
}

/// Ticks of the kernel in a second: its coarse clock goes by them.
fn hertz() -> u32 {
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |r| r.tv_nsec());
    match u32::try_from(resolution) {
        Ok(nanoseconds @ 1..) => 1_000_000_000 / nanoseconds,
        _ => 100,
    }
}

fn seconds(path: &'static str) -> Result<u32> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Timeout { path, source })?;
    text.trim().parse().map_err(|error| Error::Timeout {
        path,
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_renewed_twice_a_minute_or_four_times_in_a_short_life() {
        assert_eq!(least(86_400, 250), (86_400 - 30) * 250);
        assert_eq!(least(120, 1000), 90_000);
        assert_eq!(least(40, 100), 3000);
        assert_eq!(least(0, 100), 0);
    }

    #[test]
    fn ticks_that_do_not_fit_trust_nothing() {
        assert_eq!(least(u32::MAX, 1000), i32::MAX as u32);
    }

    #[test]
    fn the_kernel_ticks_between_24_and_1200_times_a_second() {
        assert!((24..=1200).contains(&hertz()), "{}", hertz());
    }
}
