//! How fast a pod may send and receive: a token bucket on the host's end of its cable for what it receives, and one on
//! an intermediate link for what it sends, as upstream's bandwidth plugin has them.

use knode_netlink::{Handle, TokenBucket, add_ifb, add_ingress, redirect_ingress, set_token_bucket};

use crate::error::{Error, Result};
use crate::name;

/// Bytes that may go at once where nobody says otherwise: a segment as the stack hands it down before it is cut.
const LEAST_BURST: u64 = 64 << 10;
/// By default so much of a second's bytes may go at once.
const BURST_SHARE: u64 = 100;
/// As long may a packet wait before it is dropped, milliseconds (upstream's figure).
const LATENCY: u64 = 25;

/// Limits of one pod, seen from the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// What it receives.
    pub ingress: Option<RateLimit>,
    /// What it sends.
    pub egress: Option<RateLimit>,
}

/// A limit in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Bits per second, 8 at least.
    pub bits_per_second: u64,
    /// Bits that may go at once; a hundredth of a second's, 64 KiB at least, where none are given.
    pub burst_bits: Option<u64>,
}

impl RateLimit {
    /// A limit with the default burst.
    pub fn of(bits_per_second: u64) -> Self {
        Self {
            bits_per_second,
            burst_bits: None,
        }
    }

    fn bucket(&self) -> Result<TokenBucket> {
        let rate = self.bits_per_second / 8;
        if rate == 0 {
            let limit = format!("a bandwidth of {} bit/s", self.bits_per_second);
            return Err(Error::Unsupported(limit));
        }
        let default = || (rate / BURST_SHARE).max(LEAST_BURST);
        let burst = self.burst_bits.map_or_else(default, |bits| bits / 8).max(1);
        let waiting = rate.saturating_mul(LATENCY) / 1000;
        let whole = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Ok(TokenBucket {
            rate,
            burst: whole(burst),
            limit: whole(burst.saturating_add(waiting)),
        })
    }
}

/// Puts the limits on a cable that has none.
pub(crate) fn limit(handle: &Handle, host_link: &str, mtu: u32, bandwidth: Bandwidth) -> Result<()> {
    let failed = || Error::netlink("limit the pod's bandwidth");
    if bandwidth == Bandwidth::default() {
        return Ok(());
    }
    let cable = index(handle, host_link)?;
    if let Some(ingress) = bandwidth.ingress {
        let request = set_token_bucket(cable, ingress.bucket()?);
        handle.execute(request).map_err(failed())?;
    }
    if let Some(egress) = bandwidth.egress {
        let (bucket, name) = (egress.bucket()?, name::ifb(host_link));
        handle.execute(add_ifb(&name, mtu)).map_err(failed())?;
        let ifb = index(handle, &name)?;
        let requests = vec![
            set_token_bucket(ifb, bucket),
            add_ingress(cable),
            redirect_ingress(cable, ifb),
        ];
        handle.execute_each(requests).map_err(failed())?;
    }
    Ok(())
}

fn index(handle: &Handle, name: &str) -> Result<u32> {
    let failed = || Error::netlink("limit the pod's bandwidth");
    match handle.link(name).map_err(failed())? {
        Some(link) => Ok(link.index),
        None => Err(failed()(knode_netlink::Error::NotFound {
            op: "get link",
            object: name.to_owned(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(bits_per_second: u64, burst_bits: Option<u64>) -> TokenBucket {
        RateLimit {
            bits_per_second,
            burst_bits,
        }
        .bucket()
        .unwrap()
    }

    #[test]
    fn bits_become_bytes() {
        let ten = bucket(10_000_000, None);
        assert_eq!((ten.rate, ten.burst), (1_250_000, 64 << 10));
        assert_eq!(ten.limit, (64 << 10) + 31_250, "25 ms worth may wait");
        assert_eq!(bucket(8_000_000_000, None).burst, 10_000_000, "10 ms worth");
        assert_eq!(bucket(8000, Some(16_000)).burst, 2000);
        let huge = bucket(1 << 60, Some(u64::MAX));
        assert_eq!((huge.burst, huge.limit), (u32::MAX, u32::MAX));
    }

    #[test]
    fn nothing_a_second_is_refused() {
        assert!(RateLimit::of(7).bucket().is_err());
    }
}
