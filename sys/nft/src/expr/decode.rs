use std::time::Duration;

use super::{
    CmpOp, CtDir, CtKey, DynsetOp, Expr, FibFlags, FibResult, MetaKey, NatFlags, NatKind, PayloadBase, Reg,
    RejectKind,
};
use crate::object::Verdict;
use crate::wire::Attrs;

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;

/// The kernel names a register that begins a 128-bit one by that one's number.
fn reg(attrs: Attrs<'_>, kind: u16) -> Option<Reg> {
    match attrs.be32(kind)? {
        number @ 1..=4 => Some(Reg(((number - 1) * 4) as u8)),
        number @ 8..=23 => Some(Reg((number - 8) as u8)),
        _ => None,
    }
}

fn value(attrs: Attrs<'_>, kind: u16) -> Option<Vec<u8>> {
    attrs.nested(kind)?.get(NFTA_DATA_VALUE).map(<[u8]>::to_vec)
}

fn nat_flags(attrs: Attrs<'_>, kind: u16) -> NatFlags {
    NatFlags(attrs.be32(kind).unwrap_or_default() & NatFlags::MASK)
}

impl Expr {
    pub(crate) fn decode(attrs: Attrs<'_>) -> Self {
        let name = attrs.text(NFTA_EXPR_NAME).unwrap_or_default();
        let data = attrs.nested(NFTA_EXPR_DATA).unwrap_or(Attrs(&[]));
        Self::decode_data(name, data).unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    fn decode_data(name: &str, data: Attrs<'_>) -> Option<Self> {
        match name {
            "payload" => decode_payload(data),
            "meta" => decode_meta(data),
            "ct" => decode_ct(data),
            "cmp" => Some(Self::Cmp {
                sreg: reg(data, 1)?,
                op: CmpOp::from_number(data.be32(2)?)?,
                data: value(data, 3)?,
            }),
            "bitwise" => Some(Self::Bitwise {
                sreg: reg(data, 1)?,
                dreg: reg(data, 2)?,
                mask: value(data, 4)?,
                xor: value(data, 5)?,
            }),
            "lookup" => decode_lookup(data),
            "immediate" => decode_immediate(data),
            "nat" => Some(Self::Nat {
                kind: NatKind::from_number(data.be32(1)?)?,
                family: data.be32(2)? as u8,
                addr: reg(data, 3),
                port: reg(data, 5),
                flags: nat_flags(data, 7),
            }),
            "masq" => Some(Self::Masquerade(nat_flags(data, 1))),
            "numgen" => Some(Self::NumGen {
                dreg: reg(data, 1)?,
                modulus: data.be32(2)?,
                random: data.be32(3)? == 1,
                offset: data.be32(4).unwrap_or_default(),
            }),
            "fib" => Some(Self::Fib {
                dreg: reg(data, 1)?,
                result: FibResult::from_number(data.be32(2)?)?,
                flags: FibFlags(data.be32(3)?),
            }),
            "counter" => Some(Self::Counter),
            "reject" => decode_reject(data),
            "dynset" => decode_dynset(data),
            _ => None,
        }
    }
}

fn decode_payload(data: Attrs<'_>) -> Option<Expr> {
    Some(Expr::Payload {
        dreg: reg(data, 1)?,
        base: PayloadBase::from_number(data.be32(2)?)?,
        offset: data.be32(3)?,
        len: data.be32(4)?,
    })
}

fn decode_meta(data: Attrs<'_>) -> Option<Expr> {
    let key = MetaKey::from_number(data.be32(2)?)?;
    match reg(data, 3) {
        Some(sreg) => Some(Expr::MetaSet { key, sreg }),
        None => Some(Expr::Meta {
            dreg: reg(data, 1)?,
            key,
        }),
    }
}

fn decode_ct(data: Attrs<'_>) -> Option<Expr> {
    let dir = data
        .get(3)
        .and_then(|dir| CtDir::from_number(u32::from(*dir.first()?)));
    Some(Expr::Ct {
        dreg: reg(data, 1)?,
        key: CtKey::from_number(data.be32(2)?)?,
        dir,
    })
}

fn decode_lookup(data: Attrs<'_>) -> Option<Expr> {
    let set = data.text(1)?.to_owned();
    let sreg = reg(data, 2)?;
    if data.be32(3) == Some(0) {
        return Some(Expr::LookupVerdict { set, sreg });
    }
    let invert = data.be32(5).unwrap_or_default() & 1 != 0;
    Some(Expr::Lookup {
        set,
        sreg,
        dreg: reg(data, 3),
        invert,
    })
}

fn decode_immediate(data: Attrs<'_>) -> Option<Expr> {
    match data.nested(2)?.nested(NFTA_DATA_VERDICT) {
        Some(verdict) => Verdict::decode(verdict).map(Expr::Verdict),
        None => Some(Expr::Immediate {
            dreg: reg(data, 1)?,
            data: value(data, 2)?,
        }),
    }
}

fn decode_reject(data: Attrs<'_>) -> Option<Expr> {
    let code = || data.get(2).and_then(|code| code.first().copied());
    match data.be32(1)? {
        0 => Some(Expr::Reject(RejectKind::Icmp(code()?))),
        1 => Some(Expr::Reject(RejectKind::TcpReset)),
        2 => Some(Expr::Reject(RejectKind::Icmpx(code()?))),
        _ => None,
    }
}

fn decode_dynset(data: Attrs<'_>) -> Option<Expr> {
    Some(Expr::Dynset {
        set: data.text(1)?.to_owned(),
        op: DynsetOp::from_number(data.be32(3)?)?,
        key: reg(data, 4)?,
        data: reg(data, 5),
        timeout: data
            .be64(6)
            .filter(|millis| *millis != 0)
            .map(Duration::from_millis),
    })
}
