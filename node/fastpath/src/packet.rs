//! Where things stand: in a packet, in the structures that programs hand to the kernel, on a program's stack.

use std::net::IpAddr;

/// Members of the context of a program (`struct __sk_buff`).
pub(crate) mod skb {
    pub const PROTOCOL: i16 = 16;
    pub const DATA: i16 = 76;
    pub const DATA_END: i16 = 80;
}

/// Offsets in an Ethernet frame with IPv4 without options, or IPv6 without extension headers.
pub(crate) mod frame {
    pub const IPV4: i16 = 14;
    pub const IPV4_FRAGMENT: i16 = IPV4 + 6;
    pub const IPV4_TTL: i16 = IPV4 + 8;
    pub const IPV4_PROTOCOL: i16 = IPV4 + 9;
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

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Version 4, five words of header.
pub(crate) const IPV4_PLAIN: i32 = 0x45;
/// More fragments, or a fragment's place.
pub(crate) const FRAGMENT: u16 = 0x3fff;
pub(crate) const TCP: i32 = 6;
pub(crate) const UDP: i32 = 17;
/// FIN, SYN, RST: connection tracking is to see them.
pub(crate) const TCP_TURNS: i32 = 0b111;
/// The kernel is to measure the segments that it will cut a packet into (`BPF_MTU_CHK_SEGS`).
pub(crate) const EACH_SEGMENT: i32 = 1;
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

/// The cable behind an address: interface of the host's end, padding, the Ethernet header's two addresses.
pub(crate) const CABLE: usize = 20;

/// The map's value: the pod's address is first in a frame, the router's second.
pub(crate) fn cable(interface: u32, pod: [u8; 6], router: [u8; 6]) -> [u8; CABLE] {
    let mut value = [0; CABLE];
    value[..4].copy_from_slice(&interface.to_ne_bytes());
    value[4..10].copy_from_slice(&pod);
    value[10..16].copy_from_slice(&router);
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
