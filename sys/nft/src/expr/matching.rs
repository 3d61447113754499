//! Groups of expressions for what rules ask most often.

use std::net::{IpAddr, Ipv4Addr};

use super::{CmpOp, Expr, FibFlags, FibResult, MetaKey, PayloadBase, Reg};

const IPV4_SADDR: u32 = 12;
const IPV4_DADDR: u32 = 16;
const IPV6_SADDR: u32 = 8;
const IPV6_DADDR: u32 = 24;
const RTN_LOCAL: u32 = 2;

/// Loads the IPv4 source address.
pub fn load_ipv4_saddr(dreg: Reg) -> Expr {
    Expr::Payload {
        dreg,
        base: PayloadBase::Network,
        offset: IPV4_SADDR,
        len: 4,
    }
}

/// Loads the IPv4 destination address.
pub fn load_ipv4_daddr(dreg: Reg) -> Expr {
    Expr::Payload {
        dreg,
        base: PayloadBase::Network,
        offset: IPV4_DADDR,
        len: 4,
    }
}

/// Loads the source address; the table's family says of which length.
pub fn load_saddr(dreg: Reg, v6: bool) -> Expr {
    if v6 {
        load_ipv6(dreg, IPV6_SADDR)
    } else {
        load_ipv4_saddr(dreg)
    }
}

/// Loads the destination address; the table's family says of which length.
pub fn load_daddr(dreg: Reg, v6: bool) -> Expr {
    if v6 {
        load_ipv6(dreg, IPV6_DADDR)
    } else {
        load_ipv4_daddr(dreg)
    }
}

fn load_ipv6(dreg: Reg, offset: u32) -> Expr {
    Expr::Payload {
        dreg,
        base: PayloadBase::Network,
        offset,
        len: 16,
    }
}

/// Loads the transport protocol's number, one byte.
pub fn load_l4proto(dreg: Reg) -> Expr {
    Expr::Meta {
        dreg,
        key: MetaKey::L4Proto,
    }
}

/// Loads the destination port of TCP, UDP or SCTP.
pub fn load_dport(dreg: Reg) -> Expr {
    Expr::Payload {
        dreg,
        base: PayloadBase::Transport,
        offset: 2,
        len: 2,
    }
}

/// The IPv4 source address lies in (or, with [`CmpOp::Neq`], outside) a prefix of up to 32 bits.
pub fn ipv4_saddr(op: CmpOp, prefix: Ipv4Addr, bits: u8) -> Vec<Expr> {
    saddr(op, prefix.into(), bits)
}

/// The IPv4 destination address lies in (or, with [`CmpOp::Neq`], outside) a prefix of up to 32 bits.
pub fn ipv4_daddr(op: CmpOp, prefix: Ipv4Addr, bits: u8) -> Vec<Expr> {
    daddr(op, prefix.into(), bits)
}

/// The source address lies in (or, with [`CmpOp::Neq`], outside) a prefix; the table is of the prefix's family.
pub fn saddr(op: CmpOp, prefix: IpAddr, bits: u8) -> Vec<Expr> {
    prefix_match(load_saddr(Reg(0), prefix.is_ipv6()), op, prefix, bits)
}

/// The destination address lies in (or, with [`CmpOp::Neq`], outside) a prefix; the table is of its family.
pub fn daddr(op: CmpOp, prefix: IpAddr, bits: u8) -> Vec<Expr> {
    prefix_match(load_daddr(Reg(0), prefix.is_ipv6()), op, prefix, bits)
}

fn prefix_match(load: Expr, op: CmpOp, prefix: IpAddr, bits: u8) -> Vec<Expr> {
    let octets = match prefix {
        IpAddr::V4(prefix) => prefix.octets().to_vec(),
        IpAddr::V6(prefix) => prefix.octets().to_vec(),
    };
    let mask: Vec<u8> = (0..octets.len())
        .map(|at| {
            let ones = usize::from(bits).saturating_sub(at * 8).min(8);
            !(0xff_u8.checked_shr(ones as u32).unwrap_or(0))
        })
        .collect();
    let data = octets
        .iter()
        .zip(&mask)
        .map(|(octet, mask)| octet & mask)
        .collect();
    let mut exprs = vec![load];
    if usize::from(bits) < octets.len() * 8 {
        exprs.push(Expr::Bitwise {
            sreg: Reg(0),
            dreg: Reg(0),
            xor: vec![0; mask.len()],
            mask,
        });
    }
    exprs.push(Expr::Cmp {
        sreg: Reg(0),
        op,
        data,
    });
    exprs
}

/// The name of the interface that the packet came in by begins so (or, with [`CmpOp::Neq`], does not).
pub fn iifname_begins(op: CmpOp, prefix: &str) -> Vec<Expr> {
    vec![
        Expr::Meta {
            dreg: Reg(0),
            key: MetaKey::IifName,
        },
        Expr::Cmp {
            sreg: Reg(0),
            op,
            data: prefix.as_bytes().to_vec(),
        },
    ]
}

/// The name of the interface that the packet leaves by is (or is not) this one.
pub fn oifname(op: CmpOp, name: &str) -> Vec<Expr> {
    interface(MetaKey::OifName, op, name)
}

/// The name of the interface that the packet came in by is (or is not) this one.
pub fn iifname(op: CmpOp, name: &str) -> Vec<Expr> {
    interface(MetaKey::IifName, op, name)
}

fn interface(key: MetaKey, op: CmpOp, name: &str) -> Vec<Expr> {
    let mut data = name.as_bytes().to_vec();
    data.resize(libc::IFNAMSIZ, 0);
    vec![
        Expr::Meta { dreg: Reg(0), key },
        Expr::Cmp {
            sreg: Reg(0),
            op,
            data,
        },
    ]
}

/// The transport protocol is this one.
pub fn l4proto(proto: u8) -> Vec<Expr> {
    vec![
        load_l4proto(Reg(0)),
        Expr::Cmp {
            sreg: Reg(0),
            op: CmpOp::Eq,
            data: vec![proto],
        },
    ]
}

/// The destination (or source) address is (or is not) one of this host's.
pub fn addr_is_local(which: FibFlags, op: CmpOp) -> Vec<Expr> {
    vec![
        Expr::Fib {
            dreg: Reg(0),
            result: FibResult::AddrType,
            flags: which,
        },
        Expr::Cmp {
            sreg: Reg(0),
            op,
            data: RTN_LOCAL.to_ne_bytes().to_vec(),
        },
    ]
}

/// The bits of the packet's mark are all set (or, with [`CmpOp::Neq`], are not).
pub fn mark_has(op: CmpOp, bits: u32) -> Vec<Expr> {
    let mask = bits.to_ne_bytes().to_vec();
    vec![
        Expr::Meta {
            dreg: Reg(0),
            key: MetaKey::Mark,
        },
        Expr::Bitwise {
            sreg: Reg(0),
            dreg: Reg(0),
            mask: mask.clone(),
            xor: vec![0; 4],
        },
        Expr::Cmp {
            sreg: Reg(0),
            op,
            data: mask,
        },
    ]
}

/// Sets bits of the packet's mark.
pub fn mark_set(bits: u32) -> Vec<Expr> {
    mark_rewrite(!bits, bits)
}

/// Clears bits of the packet's mark.
pub fn mark_clear(bits: u32) -> Vec<Expr> {
    mark_rewrite(!bits, 0)
}

fn mark_rewrite(mask: u32, xor: u32) -> Vec<Expr> {
    let (mask, xor) = (mask.to_ne_bytes().to_vec(), xor.to_ne_bytes().to_vec());
    vec![
        Expr::Meta {
            dreg: Reg(0),
            key: MetaKey::Mark,
        },
        Expr::Bitwise {
            sreg: Reg(0),
            dreg: Reg(0),
            mask,
            xor,
        },
        Expr::MetaSet {
            key: MetaKey::Mark,
            sreg: Reg(0),
        },
    ]
}
