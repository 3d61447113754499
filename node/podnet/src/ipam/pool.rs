use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::{Error, Result};

/// Before the first pod's address: the network's own, which is the overlay device's, and the bridge's.
const RESERVED: u128 = 2;

/// The bridge's address: the first after the network's own.
pub(crate) fn gateway(subnet: IpNet) -> Result<IpAddr> {
    let (first, _) = bounds(subnet).ok_or(Error::SubnetTooSmall(subnet))?;
    Ok(address(subnet, first - 1))
}

/// Whether a pod may have the address.
pub(super) fn contains(subnet: IpNet, ip: IpAddr) -> bool {
    let within = |(first, last)| (first..=last).contains(&number(ip));
    subnet.contains(&ip) && bounds(subnet).is_some_and(within)
}

/// The address that has the same place in `subnet` as `ip` has in `other`; `None` when there is none for pods.
pub(crate) fn counterpart(subnet: IpNet, other: IpNet, ip: IpAddr) -> Option<IpAddr> {
    let place = number(ip).checked_sub(number(other.network()))?;
    let (first, last) = bounds(subnet)?;
    let there = number(subnet.network()).checked_add(place)?;
    // The bridges' addresses are counterparts too.
    (first - 1..=last)
        .contains(&there)
        .then(|| address(subnet, there))
}

/// The first free address after `last`, around the end to the beginning; `None` when all are taken.
pub(super) fn next_free(
    subnet: IpNet,
    last: Option<IpAddr>,
    taken: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let (first, end) = bounds(subnet)?;
    let start = last
        .map(number)
        .filter(|l| (first..end).contains(l))
        .map_or(first, |l| l + 1);
    (start..=end)
        .chain(first..start)
        .map(|n| address(subnet, n))
        .find(|ip| !taken(*ip))
}

/// First and last address for pods: without network, bridge, and IPv4's broadcast.
fn bounds(subnet: IpNet) -> Option<(u128, u128)> {
    let broadcast = u128::from(matches!(subnet, IpNet::V4(_)));
    let first = number(subnet.network()) + RESERVED;
    let last = number(subnet.broadcast()).checked_sub(broadcast)?;
    let roomy = subnet.max_prefix_len() - subnet.prefix_len() >= 2;
    (roomy && first <= last).then_some((first, last))
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// The address with that number, in the subnet's family.
fn address(subnet: IpNet, number: u128) -> IpAddr {
    match subnet {
        IpNet::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpNet::V6(_) => Ipv6Addr::from(number).into(),
    }
}
