use std::net::IpAddr;

use knode_nft::{CmpOp, Expr, FibFlags, MetaKey, PayloadBase};

const RTN_LOCAL: u32 = 2;
const RTN_UNICAST: u32 = 1;

/// What is known of a packet.
pub(super) struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub is_local: fn(IpAddr) -> bool,
}

/// Whether the tests at the beginning of a rule hold, all that come before it does anything; `None` if that
/// depends on the interface.
pub(super) fn holds(exprs: &[Expr], packet: &Packet) -> Option<bool> {
    let mut value: Option<Vec<u8>> = Some(Vec::new());
    for expr in exprs {
        match expr {
            Expr::Payload {
                base: PayloadBase::Network,
                offset,
                ..
            } => value = address(packet, *offset).map(octets),
            Expr::Fib { flags, .. } => {
                let asked = if *flags == FibFlags::SADDR {
                    packet.source
                } else {
                    packet.destination
                };
                let kind = if (packet.is_local)(asked) {
                    RTN_LOCAL
                } else {
                    RTN_UNICAST
                };
                value = Some(kind.to_ne_bytes().to_vec());
            }
            Expr::Meta {
                key: MetaKey::IifName,
                ..
            } => value = None,
            Expr::Bitwise { mask, xor, .. } => {
                let masked = |value: Vec<u8>| {
                    value
                        .iter()
                        .zip(mask)
                        .zip(xor)
                        .map(|((v, m), x)| (v & m) ^ x)
                        .collect()
                };
                value = value.map(masked);
            }
            Expr::Cmp { op, data, .. } => {
                let equal = value.as_ref()? == data;
                if equal != (*op == CmpOp::Eq) {
                    return Some(false);
                }
            }
            // Keys of lookups and what changes the packet: the tests are over, or are the maps' own.
            Expr::LookupVerdict { .. } => return Some(false),
            Expr::Lookup { dreg: None, .. } => return Some(false),
            Expr::Lookup { set, .. } if set.starts_with("sticky") => return Some(false),
            _ => {}
        }
    }
    Some(true)
}

fn address(packet: &Packet, offset: u32) -> Option<IpAddr> {
    match (packet.destination.is_ipv6(), offset) {
        (false, 12) | (true, 8) => Some(packet.source),
        (false, 16) | (true, 24) => Some(packet.destination),
        _ => None,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
