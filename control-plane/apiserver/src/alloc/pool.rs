//! Which addresses and ports are taken.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use knode_kinds::ip_families::IpFamily;
use rand::RngExt;

use super::Held;

/// Upstream doesn't use more of a range than this many addresses.
const MAX_ADDRESSES: u128 = 1 << 16;

/// Taken addresses and ports.
pub(crate) struct Pools {
    /// One of each family, the default one first.
    addresses: Vec<Addresses>,
    range: RangeInclusive<u16>,
    ports: BTreeSet<u16>,
}

/// Taken addresses of one range.
struct Addresses {
    cidr: IpNet,
    taken: BTreeSet<IpAddr>,
}

/// Why one can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    OutOfRange,
    Allocated,
    Full,
}

impl Addresses {
    fn family(&self) -> IpFamily {
        IpFamily::of(self.cidr.addr())
    }

    fn is_ipv6(&self) -> bool {
        matches!(self.cidr, IpNet::V6(_))
    }

    fn take(&mut self, address: IpAddr) -> Result<(), Taken> {
        let edge = address == self.cidr.network() || (!self.is_ipv6() && address == self.cidr.broadcast());
        if !self.cidr.contains(&address) || edge {
            return Err(Taken::OutOfRange);
        }
        if self.taken.insert(address) {
            Ok(())
        } else {
            Err(Taken::Allocated)
        }
    }

    fn take_any(&mut self) -> Result<IpAddr, Taken> {
        let size = self.size();
        let band = reserved_band(size);
        let found = self.pick(band, size).or_else(|| self.pick(0, band));
        let address = found.ok_or(Taken::Full)?;
        self.taken.insert(address);
        Ok(address)
    }

    /// A free address in a part of the range, from a random place on.
    fn pick(&self, from: u128, to: u128) -> Option<IpAddr> {
        if from >= to {
            return None;
        }
        let start = rand::rng().random_range(from..to);
        (start..to)
            .chain(from..start)
            .map(|at| self.address(at))
            .find(|a| !self.taken.contains(a))
    }

    /// Usable addresses: neither the network's nor (IPv4) its broadcast address.
    fn size(&self) -> u128 {
        let bits = u32::from(self.cidr.max_prefix_len() - self.cidr.prefix_len());
        let all = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
        let edges = if self.is_ipv6() { 1 } else { 2 };
        all.saturating_sub(edges).min(MAX_ADDRESSES)
    }

    fn address(&self, index: u128) -> IpAddr {
        match self.cidr.network() {
            IpAddr::V4(base) => {
                let offset = u32::try_from(index + 1).unwrap_or(u32::MAX);
                Ipv4Addr::from(u32::from(base).saturating_add(offset)).into()
            }
            IpAddr::V6(base) => Ipv6Addr::from(u128::from(base).saturating_add(index + 1)).into(),
        }
    }
}

impl Pools {
    /// `cidrs`: at most one of each family, the default one first.
    pub fn new(cidrs: &[IpNet], range: RangeInclusive<u16>) -> Self {
        let empty = |cidr: &IpNet| Addresses {
            cidr: *cidr,
            taken: BTreeSet::new(),
        };
        Self {
            addresses: cidrs.iter().map(empty).collect(),
            range,
            ports: BTreeSet::new(),
        }
    }

    pub fn range(&self) -> &RangeInclusive<u16> {
        &self.range
    }

    /// The families of which there are addresses, the default one first.
    pub fn families(&self) -> Vec<IpFamily> {
        self.addresses.iter().map(Addresses::family).collect()
    }

    fn of(&mut self, family: IpFamily) -> Result<&mut Addresses, Taken> {
        let mut all = self.addresses.iter_mut();
        all.find(|addresses| addresses.family() == family)
            .ok_or(Taken::OutOfRange)
    }

    /// Takes this address.
    pub fn take_address(&mut self, address: IpAddr) -> Result<(), Taken> {
        self.of(IpFamily::of(address))?.take(address)
    }

    /// Takes any address of a family, from the upper part of the range as long as there is one: the lower part is
    /// for those who choose theirs.
    pub fn take_any_address(&mut self, family: IpFamily) -> Result<IpAddr, Taken> {
        self.of(family)?.take_any()
    }

    /// Takes this port.
    pub fn take_port(&mut self, port: u16) -> Result<(), Taken> {
        if !self.range.contains(&port) {
            return Err(Taken::OutOfRange);
        }
        if self.ports.insert(port) {
            Ok(())
        } else {
            Err(Taken::Allocated)
        }
    }

    /// Takes any port.
    pub fn take_any_port(&mut self) -> Result<u16, Taken> {
        let (first, last) = (*self.range.start(), *self.range.end());
        if first > last {
            return Err(Taken::Full);
        }
        let start = rand::rng().random_range(first..=last);
        let port = (start..=last)
            .chain(first..start)
            .find(|p| !self.ports.contains(p))
            .ok_or(Taken::Full)?;
        self.ports.insert(port);
        Ok(port)
    }

    /// Takes what is in use, whether it fits the ranges or not.
    pub fn take_all(&mut self, held: &Held) {
        for address in &held.addresses {
            if let Ok(addresses) = self.of(IpFamily::of(*address)) {
                addresses.taken.insert(*address);
            }
        }
        self.ports.extend(&held.ports);
    }

    pub fn give_back(&mut self, held: &Held) {
        for addresses in &mut self.addresses {
            held.addresses.iter().for_each(|address| {
                addresses.taken.remove(address);
            });
        }
        held.ports.iter().for_each(|port| {
            self.ports.remove(port);
        });
    }
}

/// Upstream's `min(max(16, size / 16), 256)`.
fn reserved_band(size: u128) -> u128 {
    if size < 16 {
        0
    } else {
        (size / 16).clamp(16, 256).min(size)
    }
}
