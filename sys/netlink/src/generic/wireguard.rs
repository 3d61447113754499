//! WireGuard devices: keys, ports, peers (`linux/wireguard.h`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Attributes, GenericSocket, Writer};
use crate::error::Result;

const FAMILY: &str = "wireguard";
const VERSION: u8 = 1;
const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;

mod device {
    pub const NAME: u16 = 2;
    pub const PRIVATE_KEY: u16 = 3;
    pub const PUBLIC_KEY: u16 = 4;
    pub const LISTEN_PORT: u16 = 6;
    pub const PEERS: u16 = 8;
}

mod peer {
    pub const PUBLIC_KEY: u16 = 1;
    pub const PRESHARED_KEY: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const ENDPOINT: u16 = 4;
    pub const KEEPALIVE: u16 = 5;
    pub const ALLOWED_IPS: u16 = 9;
    pub const REMOVE_ME: u32 = 1;
    pub const REPLACE_ALLOWED_IPS: u32 = 2;
}

mod allowed {
    pub const FAMILY: u16 = 1;
    pub const ADDRESS: u16 = 2;
    pub const MASK: u16 = 3;
}

const AF_INET: u16 = nix::libc::AF_INET as u16;
const AF_INET6: u16 = nix::libc::AF_INET6 as u16;
/// So many peers stay below the 64 KiB of an attribute.
const PEERS_AT_ONCE: usize = 256;

/// A key: private, public or shared. Only public ones are meant to be seen, so none is shown in full.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its public key, by which it is known.
    pub key: Key,
    /// A key that both have besides.
    pub preshared: Option<Key>,
    /// Where to send to.
    pub endpoint: Option<SocketAddr>,
    /// Something is sent at least so often, seconds; 0 for never.
    pub keepalive: u16,
    /// Addresses that are behind it.
    pub allowed: Vec<IpNet>,
}

/// A device as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// The public half of its key, once it has one.
    pub key: Option<Key>,
    /// The UDP port that it receives on.
    pub port: u16,
    /// Its peers.
    pub peers: Vec<Peer>,
}

/// A change of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Add it, or set all that it has.
    Set(Peer),
    /// Remove it.
    Remove(Key),
}

/// The kernel's WireGuard, in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Wireguard {
    socket: GenericSocket,
    family: u16,
}

impl Wireguard {
    /// Looks for it.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] when this kernel has none, [`crate::Error::Socket`].
    pub fn open() -> Result<Self> {
        let mut socket = GenericSocket::open()?;
        let family = socket.family(FAMILY)?;
        Ok(Self { socket, family })
    }

    /// Gives a device its private key and port. Peers stay, and so do sessions where both are as before.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] without such a device.
    pub fn identify(&mut self, name: &str, private: &Key, port: u16) -> Result<()> {
        let message = identify(name, private, port);
        self.socket.change(("set keys of", name), self.family, &message)
    }

    /// Changes peers of a device, hundreds a message.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] without such a device. Earlier changes stay.
    pub fn change(&mut self, name: &str, changes: &[Change]) -> Result<()> {
        for some in changes.chunks(PEERS_AT_ONCE) {
            let message = set_peers(name, some);
            self.socket
                .change(("change peers of", name), self.family, &message)?;
        }
        Ok(())
    }

    /// A device with its peers.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] without such a device.
    pub fn device(&mut self, name: &str) -> Result<Device> {
        let mut writer = Writer::command(GET_DEVICE, VERSION);
        writer.text(device::NAME, name);
        let answers = self
            .socket
            .dump(("get device", name), self.family, &writer.into_bytes())?;
        Ok(read_device(&answers))
    }
}

fn identify(name: &str, private: &Key, port: u16) -> Vec<u8> {
    let mut writer = Writer::command(SET_DEVICE, VERSION);
    writer.text(device::NAME, name);
    writer.put(device::PRIVATE_KEY, &private.0);
    writer.put(device::LISTEN_PORT, &port.to_ne_bytes());
    writer.into_bytes()
}

fn set_peers(name: &str, changes: &[Change]) -> Vec<u8> {
    let mut writer = Writer::command(SET_DEVICE, VERSION);
    writer.text(device::NAME, name);
    writer.nest(device::PEERS, |writer| {
        for change in changes {
            writer.nest(0, |writer| write_peer(writer, change));
        }
    });
    writer.into_bytes()
}

fn write_peer(writer: &mut Writer, change: &Change) {
    let peer = match change {
        Change::Remove(key) => {
            writer.put(peer::PUBLIC_KEY, &key.0);
            writer.put(peer::FLAGS, &peer::REMOVE_ME.to_ne_bytes());
            return;
        }
        Change::Set(peer) => peer,
    };
    writer.put(peer::PUBLIC_KEY, &peer.key.0);
    writer.put(peer::FLAGS, &peer::REPLACE_ALLOWED_IPS.to_ne_bytes());
    // All zeroes stands for none, also in place of an earlier one.
    writer.put(peer::PRESHARED_KEY, &peer.preshared.map_or([0; 32], |k| k.0));
    if let Some(endpoint) = peer.endpoint {
        writer.put(peer::ENDPOINT, &socket_address(endpoint));
    }
    writer.put(peer::KEEPALIVE, &peer.keepalive.to_ne_bytes());
    writer.nest(peer::ALLOWED_IPS, |writer| {
        for net in &peer.allowed {
            writer.nest(0, |writer| write_allowed(writer, net));
        }
    });
}

fn write_allowed(writer: &mut Writer, net: &IpNet) {
    match net.addr() {
        IpAddr::V4(ip) => {
            writer.put(allowed::FAMILY, &AF_INET.to_ne_bytes());
            writer.put(allowed::ADDRESS, &ip.octets());
        }
        IpAddr::V6(ip) => {
            writer.put(allowed::FAMILY, &AF_INET6.to_ne_bytes());
            writer.put(allowed::ADDRESS, &ip.octets());
        }
    }
    writer.put(allowed::MASK, &[net.prefix_len()]);
}

/// `struct sockaddr_in` or `struct sockaddr_in6`.
fn socket_address(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend(AF_INET.to_ne_bytes());
            bytes.extend(v4.port().to_be_bytes());
            bytes.extend(v4.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(v6) => {
            bytes.extend(AF_INET6.to_ne_bytes());
            bytes.extend(v6.port().to_be_bytes());
            bytes.extend(v6.flowinfo().to_ne_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

/// Many peers come in several messages; one whose addresses did not fit comes again with the rest.
fn read_device(answers: &[Vec<u8>]) -> Device {
    let mut found = Device::default();
    for (kind, value) in answers.iter().flat_map(|a| Attributes::of_command(a)) {
        match kind {
            device::PUBLIC_KEY => found.key = key(value),
            device::LISTEN_PORT => found.port = short(value),
            device::PEERS => {
                for peer in Attributes::new(value).filter_map(|(_, value)| read_peer(value)) {
                    match found.peers.last_mut().filter(|last| last.key == peer.key) {
                        Some(last) => last.allowed.extend(peer.allowed),
                        None => found.peers.push(peer),
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn read_peer(value: &[u8]) -> Option<Peer> {
    let mut found = Peer {
        key: Key([0; 32]),
        preshared: None,
        endpoint: None,
        keepalive: 0,
        allowed: Vec::new(),
    };
    for (kind, value) in Attributes::new(value) {
        match kind {
            peer::PUBLIC_KEY => found.key = key(value)?,
            peer::PRESHARED_KEY => found.preshared = key(value),
            peer::ENDPOINT => found.endpoint = read_socket_address(value),
            peer::KEEPALIVE => found.keepalive = short(value),
            peer::ALLOWED_IPS => {
                let nets = Attributes::new(value).filter_map(|(_, value)| read_allowed(value));
                found.allowed = nets.collect();
            }
            _ => {}
        }
    }
    Some(found)
}

fn read_allowed(value: &[u8]) -> Option<IpNet> {
    let find = |wanted: u16| Attributes::new(value).find(|(kind, _)| *kind == wanted);
    let (_, address) = find(allowed::ADDRESS)?;
    let (_, mask) = find(allowed::MASK)?;
    IpNet::new(ip(address)?, *mask.first()?).ok()
}

fn read_socket_address(value: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(value.get(2..4)?.try_into().ok()?);
    let address = match u16::from_ne_bytes(value.get(..2)?.try_into().ok()?) {
        AF_INET => ip(value.get(4..8)?)?,
        AF_INET6 => ip(value.get(8..24)?)?,
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// A key; none is all zeroes.
fn key(value: &[u8]) -> Option<Key> {
    let bytes: [u8; 32] = value.try_into().ok()?;
    (bytes != [0; 32]).then_some(Key(bytes))
}

fn short(value: &[u8]) -> u16 {
    value.try_into().map_or(0, u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer {
            key: Key([last; 32]),
            preshared: Some(Key([9; 32])),
            endpoint: Some("192.0.2.2:51820".parse().unwrap()),
            keepalive: 25,
            allowed: vec!["10.5.2.0/24".parse().unwrap()],
        }
    }

    #[test]
    fn a_device_is_identified_byte_for_byte() {
        let want = [
            &[1, 1, 0, 0][..],
            &[15, 0, 2, 0],
            b"flannel-wg\0\0",
            &[36, 0, 3, 0],
            &[7; 32],
            &[6, 0, 6, 0, 0x6c, 0xca, 0, 0],
        ]
        .concat();
        assert_eq!(identify("flannel-wg", &Key([7; 32]), 51820), want);
    }

    #[test]
    fn a_peer_is_set_byte_for_byte() {
        let want = [
            &[1, 1, 0, 0][..],
            &[15, 0, 2, 0],
            b"flannel-wg\0\0",
            &[148, 0, 8, 0x80], // peers
            &[144, 0, 0, 0x80], // one
            &[36, 0, 1, 0],
            &[5; 32],
            &[8, 0, 3, 0, 2, 0, 0, 0], // replace its addresses
            &[36, 0, 2, 0],
            &[9; 32],
            &[20, 0, 4, 0],
            &[2, 0, 0xca, 0x6c, 192, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0],
            &[6, 0, 5, 0, 25, 0, 0, 0],
            &[32, 0, 9, 0x80],
            &[28, 0, 0, 0x80],
            &[6, 0, 1, 0, 2, 0, 0, 0],
            &[8, 0, 2, 0, 10, 5, 2, 0],
            &[5, 0, 3, 0, 24, 0, 0, 0],
        ]
        .concat();
        assert_eq!(set_peers("flannel-wg", &[Change::Set(peer(5))]), want);
    }

    #[test]
    fn a_peer_is_removed_byte_for_byte() {
        let want = [
            &[1, 1, 0, 0][..],
            &[7, 0, 2, 0],
            b"wg\0\0",
            &[52, 0, 8, 0x80],
            &[48, 0, 0, 0x80],
            &[36, 0, 1, 0],
            &[5; 32],
            &[8, 0, 3, 0, 1, 0, 0, 0],
        ]
        .concat();
        assert_eq!(set_peers("wg", &[Change::Remove(Key([5; 32]))]), want);
    }

    #[test]
    fn an_endpoint_of_ipv6_has_its_own_form() {
        let bytes = socket_address("[2001:db8::2]:51821".parse().unwrap());
        let want = [
            &[10, 0, 0xca, 0x6d, 0, 0, 0, 0][..],
            &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            &[0; 4],
        ]
        .concat();
        assert_eq!(bytes, want);
        assert_eq!(
            read_socket_address(&bytes),
            Some("[2001:db8::2]:51821".parse().unwrap())
        );
    }

    #[test]
    fn what_is_written_is_read_and_pieces_of_a_peer_are_joined() {
        let mut second = peer(6);
        second.allowed.push("fd00:2::/64".parse().unwrap());
        let first = set_peers("wg", &[Change::Set(peer(5)), Change::Set(second.clone())]);
        let rest = Peer {
            allowed: vec!["10.9.0.0/24".parse().unwrap()],
            ..peer(6)
        };
        let next = set_peers("wg", &[Change::Set(rest)]);
        let device = read_device(&[first, next]);
        second.allowed.push("10.9.0.0/24".parse().unwrap());
        assert_eq!(device.peers, [peer(5), second]);
    }

    #[test]
    fn a_thousand_peers_are_split() {
        let changes: Vec<_> = (0..PEERS_AT_ONCE).map(|n| Change::Set(peer(n as u8))).collect();
        let mut dual = changes.clone();
        for change in &mut dual {
            if let Change::Set(peer) = change {
                peer.endpoint = Some("[2001:db8::2]:1".parse().unwrap());
                peer.allowed.push("fd00:2::/64".parse().unwrap());
            }
        }
        assert!(set_peers("wg", &dual).len() < 1 << 16);
    }

    #[test]
    fn keys_are_not_shown() {
        assert_eq!(format!("{:?}", Key([0xab; 32])), "Key(abab…)");
    }
}
