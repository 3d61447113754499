//! Which tunnels packets can be wrapped for, and whom they lead to, from what the kernel tells of devices.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use knode_netlink::{Event, FdbEntry, Link, LinkKind, MacAddr};

use crate::packet::{DEVICE, ENDPOINT, Endpoint, PEER, WRAPPING, device, endpoint, outer, peer, wrapping};

/// Devices of tunnels in IPv4, and the stations behind them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tunnels {
    /// By index.
    devices: HashMap<u32, Tunnel>,
    peers: HashMap<(u32, MacAddr), Ipv4Addr>,
    /// The devices as they were read, and what they send through.
    read: HashMap<u32, Link>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tunnel {
    mac: MacAddr,
    own: Endpoint,
    way_out: u32,
}

impl Tunnels {
    /// Those among all links that do nothing that programs don't; nobody known behind them yet. `sums`: whether a device
    /// is left to send with checksums yet to be computed.
    pub fn among(links: &[Link], sums: impl Fn(&Link) -> bool) -> Self {
        let by_index: HashMap<u32, &Link> = links.iter().map(|l| (l.index, l)).collect();
        let mut tunnels = Self::default();
        for link in links {
            let LinkKind::Vxlan(vxlan) = &link.kind else {
                continue;
            };
            let below = vxlan.underlay.and_then(|index| by_index.get(&index));
            let concerned = std::iter::once(&link).chain(below);
            tunnels.read.extend(concerned.map(|l| (l.index, (*l).clone())));
            if let Some(tunnel) = below.and_then(|below| Tunnel::of(link, below))
                && sums(link)
            {
                tunnels.devices.insert(link.index, tunnel);
            }
        }
        tunnels
    }

    /// Indices of the devices.
    pub fn devices(&self) -> Vec<u32> {
        self.devices.keys().copied().collect()
    }

    /// Whether a link's news change what there is.
    pub fn concerns(&self, event: &Event) -> bool {
        match event {
            Event::Link(link) => match self.read.get(&link.index) {
                Some(before) => before != link,
                None => matches!(link.kind, LinkKind::Vxlan(_)),
            },
            Event::LinkGone(link) => self.read.contains_key(&link.index),
            _ => false,
        }
    }

    /// Takes in a change of who is behind a device; returns whether there was one.
    pub fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::Fdb(entry) if self.devices.contains_key(&entry.index) => self.learn(entry),
            Event::FdbGone(entry) => self.peers.remove(&(entry.index, entry.mac)).is_some(),
            _ => false,
        }
    }

    /// Takes in who is behind a device; returns whether that is new. What the kernel learns from traffic is its own.
    pub fn learn(&mut self, entry: &FdbEntry) -> bool {
        let key = (entry.index, entry.mac);
        match entry.remote {
            Some(IpAddr::V4(remote)) if entry.permanent => self.peers.insert(key, remote) != Some(remote),
            _ => self.peers.remove(&key).is_some(),
        }
    }

    /// What wraps, by device and station.
    pub fn wrappings(&self) -> BTreeMap<[u8; PEER], [u8; WRAPPING]> {
        let wrapping = |((index, mac), remote): (&(u32, MacAddr), &Ipv4Addr)| {
            let tunnel = self.devices.get(index)?;
            Some((peer(*index, *mac), wrapping(tunnel.own, *remote, tunnel.way_out)))
        };
        self.peers.iter().filter_map(wrapping).collect()
    }

    /// What unwraps, by where packets arrive.
    pub fn endpoints(&self) -> BTreeMap<[u8; ENDPOINT], [u8; DEVICE]> {
        let devices = self.devices.values();
        devices
            .map(|tunnel| (endpoint(tunnel.own), device(tunnel.mac)))
            .collect()
    }
}

impl Tunnel {
    /// None of a device that is down, that writes more into its headers, whose packets don't fit through the link below,
    /// or that is not in IPv4.
    fn of(link: &Link, below: &Link) -> Option<Self> {
        let LinkKind::Vxlan(vxlan) = &link.kind else {
            return None;
        };
        let IpAddr::V4(address) = vxlan.local? else {
            return None;
        };
        let around = u32::from((outer::LENGTH - 14).unsigned_abs());
        let usable = link.up && below.up && !vxlan.gbp && below.mtu >= link.mtu + around;
        usable.then_some(Self {
            mac: link.mac?,
            own: Endpoint {
                address,
                port: vxlan.port,
                vni: vxlan.vni,
            },
            way_out: below.index,
        })
    }
}

#[cfg(test)]
mod tests;
