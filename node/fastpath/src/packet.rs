//! Where things stand: in a packet, in the structures that programs hand to the kernel, on a program's stack.

use std::net::{IpAddr, Ipv4Addr};

use knode_netlink::MacAddr;

/// Members of the context of a program (`struct __sk_buff`).
pub(crate) mod skb {
    pub const LENGTH: i16 = 0;
    pub const PACKET_TYPE: i16 = 4;
    pub const PROTOCOL: i16 = 16;
    pub const DATA: i16 = 76;
    pub const DATA_END: i16 = 80;
}

/// Offsets in an Ethernet frame with IPv4 without options, or IPv6 without extension headers.
pub(crate) mod frame {
    pub const IPV4: i16 = 14;
    pub const IPV4_TOS: i16 = IPV4 + 1;
    pub const IPV4_LENGTH: i16 = IPV4 + 2;
    pub const IPV4_ID: i16 = IPV4 + 4;
    pub const IPV4_FRAGMENT: i16 = IPV4 + 6;
    pub const IPV4_TTL: i16 = IPV4 + 8;
    pub const IPV4_PROTOCOL: i16 = IPV4 + 9;
    pub const IPV4_CHECKSUM: i16 = IPV4 + 10;
    pub const IPV4_ADDRESSES: i16 = IPV4 + 12;
    pub const IPV4_PORTS: i16 = IPV4 + 20;
    pub const IPV6_PROTOCOL: i16 = 14 + 6;
    pub const IPV6_HOPS: i16 = 14 + 7;
    pub const IPV6_ADDRESSES: i16 = 14 + 8;
    pub const IPV6_PORTS: i16 = 14 + 40;
    /// Behind the ports.
    pub const TCP_FLAGS: i16 = 13;
    /// Of a TCP header.
    pub const TCP: i16 = 20;
}

/// Offsets in the headers around a packet of a VXLAN in IPv4 (RFC 7348).
pub(crate) mod outer {
    use super::frame;

    pub const SOURCE_PORT: i16 = frame::IPV4_PORTS;
    pub const PORT: i16 = SOURCE_PORT + 2;
    pub const UDP_LENGTH: i16 = SOURCE_PORT + 4;
    pub const FLAGS: i16 = SOURCE_PORT + 8;
    pub const VNI: i16 = FLAGS + 4;
    /// The frame inside.
    pub const INNER: i16 = FLAGS + 8;
    pub const INNER_TYPE: i16 = INNER + 12;
    /// Of all headers, the inner Ethernet header too.
    pub const LENGTH: i16 = INNER + 14;
}

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Version 4, five words of header.
pub(crate) const IPV4_PLAIN: i32 = 0x45;
/// Length of addresses and ports of IPv4.
pub(crate) const IPV4_TUPLE: i32 = 12;
/// More fragments, or a fragment's place.
pub(crate) const FRAGMENT: u16 = 0x3fff;
pub(crate) const TCP: i32 = 6;
pub(crate) const UDP: i32 = 17;
/// FIN, SYN, RST: connection tracking is to see them.
pub(crate) const TCP_TURNS: i32 = 0b111;
/// The kernel is to measure the segments that it will cut a packet into (`BPF_MTU_CHK_SEGS`).
pub(crate) const EACH_SEGMENT: i32 = 1;
/// Congestion was met on the way (RFC 3168), and what tells that it may be said.
pub(crate) const CONGESTED: i32 = 0b11;
pub(crate) const MAY_SAY: i32 = 0b10;
/// There is a network identifier, and nothing else.
pub(crate) const VXLAN_FLAGS: u32 = 0x0800_0000;
/// First of 16,384 ports, told apart by the hash of what is inside (RFC 7348, 5).
pub(crate) const FIRST_PORT: i32 = 49_152;
pub(crate) const HASH_SHIFT: i32 = 18;
/// `PACKET_HOST`
pub(crate) const TO_US: i32 = 0;
/// `TCP_ESTABLISHED`
pub(crate) const ESTABLISHED: i32 = 1;
/// `TC_ACT_SHOT`
pub(crate) const DROP: i32 = 2;
pub(crate) const AF_INET: i32 = 2;
pub(crate) const AF_INET6: i32 = 10;

/// Bits of a tracked connection's status (`enum ip_conntrack_status`).
pub(crate) mod status {
    pub const ASSURED: i32 = 1 << 2;
    const SOURCE_TRANSLATED: i32 = 1 << 4;
    const DESTINATION_TRANSLATED: i32 = 1 << 5;
    const SEQUENCE_ADJUSTED: i32 = 1 << 6;
    const DYING: i32 = 1 << 9;
    const HELPED: i32 = 1 << 13;
    /// What needs connection tracking for each packet.
    pub const ATTENDED: i32 = SOURCE_TRANSLATED | DESTINATION_TRANSLATED | SEQUENCE_ADJUSTED | DYING | HELPED;
}

/// A pod's address as the map's key: IPv4 as mapped into IPv6.
pub(crate) fn key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The cable behind an address: interface of the host's end, the Ethernet header's two addresses, the pod's namespace.
pub(crate) const CABLE: usize = 20;
/// Offset of the namespace.
pub(crate) const STATION: i16 = 16;

/// The map's value: the pod's address is first in a frame, the router's second. `namespace`: by the host's number for
/// it, negative if it has none.
pub(crate) fn cable(interface: u32, pod: [u8; 6], router: [u8; 6], namespace: i32) -> [u8; CABLE] {
    let mut value = [0; CABLE];
    value[..4].copy_from_slice(&interface.to_ne_bytes());
    value[4..10].copy_from_slice(&pod);
    value[10..16].copy_from_slice(&router);
    value[16..].copy_from_slice(&namespace.to_ne_bytes());
    value
}

/// A station behind a tunnel's device: interface, Ethernet address, padding.
pub(crate) const PEER: usize = 12;

/// The key of a station behind a device.
pub(crate) fn peer(device: u32, station: MacAddr) -> [u8; PEER] {
    let mut key = [0; PEER];
    key[..4].copy_from_slice(&device.to_ne_bytes());
    key[4..10].copy_from_slice(&station.0);
    key
}

/// Headers around what goes to a peer, as far as they are the same for each packet, and the interface they leave by.
pub(crate) const WRAPPING: usize = 56;
/// Offset of the interface.
pub(crate) const WAY_OUT: i16 = 52;
/// As upstream's default for what a host sends (`net.ipv4.ip_default_ttl`).
const TTL: u8 = 64;

/// One end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub address: Ipv4Addr,
    pub port: u16,
    pub vni: u32,
}

/// The map's value for a peer.
pub(crate) fn wrapping(own: Endpoint, peer: Ipv4Addr, way_out: u32) -> [u8; WRAPPING] {
    let mut value = [0; WRAPPING];
    let mut put = |at: i16, bytes: &[u8]| {
        let at = usize::from(at.unsigned_abs());
        value[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(12, &ETHERTYPE_IPV4.to_be_bytes());
    put(frame::IPV4, &[0x45]);
    put(frame::IPV4_TTL, &[TTL, UDP as u8]);
    put(frame::IPV4_ADDRESSES, &own.address.octets());
    put(frame::IPV4_ADDRESSES + 4, &peer.octets());
    put(outer::PORT, &own.port.to_be_bytes());
    put(outer::FLAGS, &VXLAN_FLAGS.to_be_bytes());
    put(outer::VNI, &(own.vni << 8).to_be_bytes());
    put(WAY_OUT, &way_out.to_ne_bytes());
    value
}

/// Where wrapped packets arrive: address, port, padding, network identifier.
pub(crate) const ENDPOINT: usize = 12;
/// A device that unwraps: its Ethernet address, padding.
pub(crate) const DEVICE: usize = 8;

/// The key of a device, as its packets spell it.
pub(crate) fn endpoint(own: Endpoint) -> [u8; ENDPOINT] {
    let mut key = [0; ENDPOINT];
    key[..4].copy_from_slice(&own.address.octets());
    key[4..6].copy_from_slice(&own.port.to_be_bytes());
    key[8..].copy_from_slice(&(own.vni << 8).to_be_bytes());
    key
}

/// The map's value for a device.
pub(crate) fn device(mac: MacAddr) -> [u8; DEVICE] {
    let mut value = [0; DEVICE];
    value[..6].copy_from_slice(&mac.0);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_is_looked_up_as_the_program_spells_it() {
        let key = key(IpAddr::from([10, 244, 1, 2]));
        assert_eq!(key, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 244, 1, 2]);
    }
}
