use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::error::{Error, Result};

/// The bridge's address: the first after the network's own, which is the overlay device's.
pub(crate) fn gateway(subnet: Ipv4Net) -> Result<Ipv4Addr> {
    let (first, last) = bounds(subnet).ok_or(Error::SubnetTooSmall(subnet))?;
    debug_assert!(first <= last);
    Ok(Ipv4Addr::from(first - 1))
}

/// The first free address after `last`, around the end to the beginning; `None` when all are taken.
pub(super) fn next_free(
    subnet: Ipv4Net,
    last: Option<Ipv4Addr>,
    taken: impl Fn(Ipv4Addr) -> bool,
) -> Option<Ipv4Addr> {
    let (first, end) = bounds(subnet)?;
    let start = last
        .map(u32::from)
        .filter(|l| (first..end).contains(l))
        .map_or(first, |l| l + 1);
    (start..=end)
        .chain(first..start)
        .map(Ipv4Addr::from)
        .find(|ip| !taken(*ip))
}

/// First and last address for pods: without network, bridge and broadcast.
fn bounds(subnet: Ipv4Net) -> Option<(u32, u32)> {
    let (first, last) = (
        u32::from(subnet.network()) + 2,
        u32::from(subnet.broadcast()).checked_sub(1)?,
    );
    (subnet.prefix_len() <= 30 && first <= last).then_some((first, last))
}
