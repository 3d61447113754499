//! What WireGuard's devices should be; pure.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use knode_netlink::generic::wireguard::{Change, Key, Peer};

use crate::config::{NetConf, WireguardConf, WireguardMode};
use crate::lease::{BackendData, Lease, LeaseAttributes, Leases};
use crate::plan::alone;
use crate::underlay::Underlay;

/// Bytes that WireGuard adds to a packet, over either family (upstream).
const OVERHEAD: u32 = 80;
/// The device that there always is.
pub(super) const DEVICE: &str = "flannel-wg";
const DEVICE_V6: &str = "flannel-wg-v6";

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub name: &'static str,
    pub port: u16,
    pub mtu: u32,
    /// Its addresses, each alone in its network.
    pub addresses: Vec<IpNet>,
    /// The networks that lie behind it.
    pub networks: Vec<IpNet>,
    /// Unknown before the first list.
    pub peers: Option<Vec<Peer>>,
}

/// The ports that a lease tells for IPv4 and IPv6: those at which a device really listens.
pub(crate) fn ports(conf: &WireguardConf) -> (u16, u16) {
    match conf.mode {
        WireguardMode::Separate => (conf.port, conf.port_v6),
        _ => (conf.port, conf.port),
    }
}

/// Largest packet that crosses WireGuard whole, bytes.
pub(crate) fn mtu(conf: &WireguardConf, underlay: &Underlay) -> u32 {
    conf.mtu.unwrap_or(underlay.mtu).saturating_sub(OVERHEAD)
}

/// The devices of a node with this lease.
pub(crate) fn desired(
    conf: &NetConf,
    wireguard: &WireguardConf,
    underlay: &Underlay,
    own: &Lease,
    leases: Option<&Leases>,
) -> Vec<Wanted> {
    let plan = Plan { conf, wireguard, own };
    let ipv4 = Some((IpNet::from(own.subnet), IpNet::from(conf.network)));
    let ipv6 = own.ipv6_subnet.zip(conf.ipv6);
    let ipv6 = ipv6.map(|(subnet, conf)| (IpNet::from(subnet), IpNet::from(conf.network)));
    let device = |name, port, sides: Vec<(IpNet, IpNet)>, over: Over| Wanted {
        name,
        port,
        mtu: mtu(wireguard, underlay),
        addresses: sides.iter().map(|(subnet, _)| alone(subnet.network())).collect(),
        networks: sides.iter().map(|(_, network)| *network).collect(),
        peers: leases.map(|l| l.peers.values().filter_map(|p| plan.peer(p, over)).collect()),
    };
    if wireguard.mode != WireguardMode::Separate {
        let sides = ipv4.into_iter().chain(ipv6).collect();
        return vec![device(DEVICE, wireguard.port, sides, Over::Both(wireguard.mode))];
    }
    let four = ipv4.map(|side| device(DEVICE, wireguard.port, vec![side], Over::Ipv4));
    let six = ipv6.map(|side| device(DEVICE_V6, wireguard.port_v6, vec![side], Over::Ipv6));
    four.into_iter().chain(six).collect()
}

/// What a device carries, and over what.
#[derive(Clone, Copy)]
enum Over {
    Ipv4,
    Ipv6,
    Both(WireguardMode),
}

struct Plan<'a> {
    conf: &'a NetConf,
    wireguard: &'a WireguardConf,
    own: &'a Lease,
}

impl Plan<'_> {
    fn peer(&self, lease: &Lease, over: Over) -> Option<Peer> {
        let foreign = lease.subnet == self.own.subnet || !self.conf.network.contains(&lease.subnet);
        if foreign {
            return None;
        }
        let four = side(
            &lease.attributes.backend,
            lease.attributes.public_ip.into(),
            self.wireguard.port,
        );
        let six = self.six(lease);
        let (subnet, subnet_v6) = (IpNet::from(lease.subnet), lease.ipv6_subnet.map(IpNet::from));
        let ((key, endpoint), allowed) = match over {
            Over::Ipv4 => (four?, vec![subnet]),
            Over::Ipv6 => (six?, vec![subnet_v6?]),
            Over::Both(mode) => {
                let six_wins = six.filter(|_| self.over_ipv6(mode, &lease.attributes));
                let v6 = subnet_v6.filter(|_| self.conf.ipv6.is_some());
                (six_wins.or(four)?, [subnet].into_iter().chain(v6).collect())
            }
        };
        Some(Peer {
            key,
            preshared: self.wireguard.preshared,
            endpoint: Some(endpoint),
            keepalive: self.wireguard.keepalive,
            allowed,
        })
    }

    fn six(&self, lease: &Lease) -> Option<(Key, SocketAddr)> {
        let network = self.conf.ipv6?.network;
        let inside = lease.ipv6_subnet.is_some_and(|subnet| network.contains(&subnet));
        let data = lease.attributes.backend_v6.as_ref().filter(|_| inside)?;
        side(data, lease.attributes.public_ipv6?.into(), self.wireguard.port_v6)
    }

    /// Upstream's choice of what will probably get through: IPv4 to public addresses, else IPv6 between public ones.
    fn over_ipv6(&self, mode: WireguardMode, theirs: &LeaseAttributes) -> bool {
        let (Some(theirs_v6), Some(ours_v6)) = (theirs.public_ipv6, self.own.attributes.public_ipv6) else {
            return false;
        };
        match mode {
            WireguardMode::Ipv6 => true,
            WireguardMode::Ipv4 | WireguardMode::Separate => false,
            WireguardMode::Auto => {
                theirs.public_ip.is_private() && !theirs_v6.is_unique_local() && !ours_v6.is_unique_local()
            }
        }
    }
}

/// Key and end point of a peer over one family. Old leases tell no port.
fn side(data: &BackendData, ip: IpAddr, usual: u16) -> Option<(Key, SocketAddr)> {
    let BackendData::Wireguard { key, port } = data else {
        return None;
    };
    let port = if *port == 0 { usual } else { *port };
    Some((*key, SocketAddr::new(ip, port)))
}

/// What to change of the peers. Where a peer really sends from is the kernel's to find out: the end point is set again
/// only when the lease told another than `known`, what was set before.
pub(super) fn changes(wanted: &[Peer], known: &[Peer], have: &[Peer]) -> Vec<Change> {
    let find = |peers: &[Peer], key: &Key| peers.iter().find(|p| p.key == *key).cloned();
    let same = |want: &Peer, have: &Peer| {
        let mut sorted = [want.allowed.clone(), have.allowed.clone()];
        sorted.iter_mut().for_each(|nets| nets.sort());
        sorted[0] == sorted[1] && (want.preshared, want.keepalive) == (have.preshared, have.keepalive)
    };
    let settled = |want: &Peer| {
        let moved = find(known, &want.key).is_some_and(|k| k.endpoint != want.endpoint);
        !moved && find(have, &want.key).is_some_and(|have| same(want, &have))
    };
    let gone = have.iter().filter(|h| wanted.iter().all(|w| w.key != h.key));
    let gone = gone.map(|peer| Change::Remove(peer.key));
    let set = wanted
        .iter()
        .filter(|w| !settled(w))
        .map(|w| Change::Set(w.clone()));
    gone.chain(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(n: u8) -> Lease {
        let data = |port| BackendData::Wireguard {
            key: Key([n; 32]),
            port,
        };
        Lease {
            subnet: format!("10.5.{n}.0/24").parse().unwrap(),
            ipv6_subnet: Some(format!("fd00:0:0:{n}::/64").parse().unwrap()),
            attributes: LeaseAttributes {
                public_ip: [192, 168, 0, n].into(),
                public_ipv6: Some(format!("2001:db8::{n}").parse().unwrap()),
                backend: data(51820),
                backend_v6: Some(data(51821)),
            },
        }
    }

    fn shown(mode: WireguardMode, other: Lease) -> Vec<String> {
        let conf = NetConf::vxlan("10.5.0.0/16".parse().unwrap()).with_ipv6("fd00::/48".parse().unwrap());
        let wireguard = WireguardConf {
            mode,
            ..WireguardConf::default()
        };
        let underlay = Underlay {
            index: 2,
            name: "eth0".into(),
            ip: [192, 168, 0, 1].into(),
            network: "192.168.0.0/24".parse().unwrap(),
            ipv6: None,
            mtu: 1500,
        };
        let leases = Leases {
            own: None,
            peers: [(other.subnet, other)].into(),
        };
        let show = |w: &Wanted| {
            let peer = &w.peers.as_ref().unwrap()[0];
            let (endpoint, mtu) = (peer.endpoint.unwrap(), w.mtu);
            format!(
                "{} {} {mtu} {:?} {:?} {endpoint} {:?}",
                w.name, w.port, w.addresses, w.networks, peer.allowed
            )
        };
        let wanted = desired(&conf, &wireguard, &underlay, &lease(1), Some(&leases));
        wanted.iter().map(show).collect()
    }

    #[test]
    fn each_family_has_a_device() {
        assert_eq!(
            shown(WireguardMode::Separate, lease(2)),
            [
                "flannel-wg 51820 1420 [10.5.1.0/32] [10.5.0.0/16] 192.168.0.2:51820 [10.5.2.0/24]",
                "flannel-wg-v6 51821 1420 [fd00:0:0:1::/128] [fd00::/48] [2001:db8::2]:51821 [fd00:0:0:2::/64]",
            ]
        );
        assert_eq!(ports(&WireguardConf::default()), (51820, 51821));
    }

    #[test]
    fn one_device_carries_both_over_what_gets_through() {
        let endpoint = |mode, other| {
            let shown = shown(mode, other);
            assert_eq!(shown.len(), 1);
            assert!(shown[0].ends_with("[10.5.2.0/24, fd00:0:0:2::/64]"), "{shown:?}");
            shown[0].split(' ').rev().nth(2).unwrap().to_owned()
        };
        let mut public = lease(2);
        public.attributes.public_ip = [203, 0, 113, 2].into();
        let mut local = lease(2);
        local.attributes.public_ipv6 = Some("fd12::2".parse().unwrap());
        assert_eq!(endpoint(WireguardMode::Ipv4, lease(2)), "192.168.0.2:51820");
        assert_eq!(endpoint(WireguardMode::Ipv6, lease(2)), "[2001:db8::2]:51821");
        assert_eq!(endpoint(WireguardMode::Auto, lease(2)), "[2001:db8::2]:51821");
        assert_eq!(endpoint(WireguardMode::Auto, public), "203.0.113.2:51820");
        assert_eq!(endpoint(WireguardMode::Auto, local), "192.168.0.2:51820");
    }

    #[test]
    fn only_what_differs_is_changed() {
        let peer = |n: u8, at: &str| Peer {
            key: Key([n; 32]),
            preshared: None,
            endpoint: Some(at.parse().unwrap()),
            keepalive: 0,
            allowed: vec![format!("10.5.{n}.0/24").parse().unwrap()],
        };
        let (two, three) = (peer(2, "192.0.2.2:1"), peer(3, "192.0.2.3:1"));
        let roamed = peer(2, "198.51.100.2:9");
        let both = [two.clone(), three.clone()];
        assert_eq!(changes(&both, &both, &[roamed.clone(), three.clone()]), []);
        assert_eq!(
            changes(std::slice::from_ref(&two), &both, &both),
            [Change::Remove(three.key)]
        );
        let moved = peer(2, "192.0.2.22:1");
        assert_eq!(
            changes(
                std::slice::from_ref(&moved),
                std::slice::from_ref(&two),
                &[roamed]
            ),
            [Change::Set(moved)]
        );
        assert_eq!(
            changes(&both, &[], std::slice::from_ref(&two)),
            [Change::Set(three)]
        );
    }
}
