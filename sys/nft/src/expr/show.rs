use std::fmt;

use super::{Expr, Reg, RejectKind};
use crate::print::hex;

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reg {}", self.0)
    }
}

/// Close to what `nft --debug=netlink` prints.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payload {
                dreg,
                base,
                offset,
                len,
            } => {
                write!(
                    f,
                    "payload load {len}b @ {} header + {offset} => {dreg}",
                    base.word()
                )
            }
            Self::Meta { dreg, key } => write!(f, "meta load {} => {dreg}", key.word()),
            Self::MetaSet { key, sreg } => write!(f, "meta set {} with {sreg}", key.word()),
            Self::Ct { dreg, key, dir } => {
                write!(f, "ct load {} => {dreg}", key.word())?;
                dir.map_or(Ok(()), |dir| write!(f, ", dir {}", dir.word()))
            }
            Self::Cmp { sreg, op, data } => write!(f, "cmp {} {sreg} {}", op.word(), hex(data)),
            Self::Bitwise {
                sreg,
                dreg,
                mask,
                xor,
            } => {
                write!(f, "bitwise {dreg} = ({sreg} & {}) ^ {}", hex(mask), hex(xor))
            }
            Self::Immediate { dreg, data } => write!(f, "immediate {dreg} {}", hex(data)),
            Self::Verdict(verdict) => write!(f, "immediate {verdict}"),
            Self::NumGen {
                dreg,
                modulus,
                random,
                offset,
            } => {
                let kind = if *random { "random" } else { "inc" };
                write!(f, "numgen {dreg} = {kind} mod {modulus} offset {offset}")
            }
            Self::Fib { dreg, result, flags } => {
                write!(f, "fib flags {:#x} {} => {dreg}", flags.0, result.word())
            }
            _ => self.show_statement(f),
        }
    }
}

impl Expr {
    fn show_statement(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup {
                set,
                sreg,
                dreg,
                invert,
            } => {
                write!(f, "lookup {sreg} set {set}")?;
                if *invert {
                    f.write_str(" inverted")?;
                }
                dreg.map_or(Ok(()), |dreg| write!(f, " => {dreg}"))
            }
            Self::LookupVerdict { set, sreg } => write!(f, "lookup {sreg} set {set} => verdict"),
            Self::Nat {
                kind,
                family,
                addr,
                port,
                flags,
            } => {
                write!(f, "nat {} family {family}", kind.word())?;
                addr.map_or(Ok(()), |addr| write!(f, " addr {addr}"))?;
                port.map_or(Ok(()), |port| write!(f, " port {port}"))?;
                write!(f, " flags {:#x}", flags.0)
            }
            Self::Masquerade(flags) => write!(f, "masq flags {:#x}", flags.0),
            Self::Reject(RejectKind::Icmp(code)) => write!(f, "reject icmp code {code}"),
            Self::Reject(RejectKind::TcpReset) => f.write_str("reject tcp reset"),
            Self::Reject(RejectKind::Icmpx(code)) => write!(f, "reject icmpx code {code}"),
            Self::Dynset {
                set,
                op,
                key,
                data,
                timeout,
            } => {
                write!(f, "dynset {} {key} set {set}", op.word())?;
                data.map_or(Ok(()), |data| write!(f, " data {data}"))?;
                timeout.map_or(Ok(()), |timeout| write!(f, " timeout {}ms", timeout.as_millis()))
            }
            other => f.write_str(other.name()),
        }
    }
}
