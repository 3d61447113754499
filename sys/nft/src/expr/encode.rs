use super::{Expr, Reg, RejectKind};
use crate::wire::Writer;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const REG_VERDICT: u32 = 0;
/// `NFT_REG32_00`, the first of the 32-bit registers.
const REG32_FIRST: u32 = 8;

impl Reg {
    fn number(self) -> u32 {
        REG32_FIRST + u32::from(self.0)
    }
}

fn reg(out: &mut Writer, kind: u16, reg: Reg) {
    out.be32(kind, reg.number());
}

fn optional_reg(out: &mut Writer, kind: u16, register: Option<Reg>) {
    if let Some(register) = register {
        reg(out, kind, register);
    }
}

fn value(out: &mut Writer, kind: u16, bytes: &[u8]) {
    out.nest(kind, |out| out.attr(NFTA_DATA_VALUE, bytes));
}

impl Expr {
    /// The kernel's name for this kind of expression.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Meta { .. } | Self::MetaSet { .. } => "meta",
            Self::Ct { .. } => "ct",
            Self::Cmp { .. } => "cmp",
            Self::Bitwise { .. } => "bitwise",
            Self::Lookup { .. } | Self::LookupVerdict { .. } => "lookup",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Nat { .. } => "nat",
            Self::Masquerade(_) => "masq",
            Self::NumGen { .. } => "numgen",
            Self::Fib { .. } => "fib",
            Self::Counter => "counter",
            Self::Reject(_) => "reject",
            Self::Dynset { .. } => "dynset",
            Self::Other(name) => name,
        }
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.nest(NFTA_LIST_ELEM, |out| {
            out.text(NFTA_EXPR_NAME, self.name());
            out.nest(NFTA_EXPR_DATA, |out| self.encode_data(out));
        });
    }

    /// Attribute numbers are those of the expression's `NFTA_*` enum in `nf_tables.h`, in its order.
    fn encode_data(&self, out: &mut Writer) {
        match self {
            Self::Payload {
                dreg,
                base,
                offset,
                len,
            } => {
                reg(out, 1, *dreg);
                out.be32(2, base.number());
                out.be32(3, *offset);
                out.be32(4, *len);
            }
            Self::Meta { dreg, key } => {
                reg(out, 1, *dreg);
                out.be32(2, key.number());
            }
            Self::MetaSet { key, sreg } => {
                out.be32(2, key.number());
                reg(out, 3, *sreg);
            }
            Self::Ct { dreg, key, dir } => {
                reg(out, 1, *dreg);
                out.be32(2, key.number());
                if let Some(dir) = dir {
                    out.attr(3, &[dir.number() as u8]);
                }
            }
            Self::Fib { dreg, result, flags } => {
                reg(out, 1, *dreg);
                out.be32(2, result.number());
                out.be32(3, flags.0);
            }
            Self::NumGen {
                dreg,
                modulus,
                random,
                offset,
            } => {
                reg(out, 1, *dreg);
                out.be32(2, *modulus);
                out.be32(3, u32::from(*random));
                out.be32(4, *offset);
            }
            Self::Counter | Self::Other(_) => {}
            _ => self.encode_operation(out),
        }
    }

    fn encode_operation(&self, out: &mut Writer) {
        match self {
            Self::Cmp { sreg, op, data } => {
                reg(out, 1, *sreg);
                out.be32(2, op.number());
                value(out, 3, data);
            }
            Self::Bitwise {
                sreg,
                dreg,
                mask,
                xor,
            } => {
                reg(out, 1, *sreg);
                reg(out, 2, *dreg);
                out.be32(3, mask.len() as u32);
                value(out, 4, mask);
                value(out, 5, xor);
            }
            Self::Lookup {
                set,
                sreg,
                dreg,
                invert,
            } => {
                out.text(1, set);
                reg(out, 2, *sreg);
                optional_reg(out, 3, *dreg);
                if *invert {
                    out.be32(5, 1);
                }
            }
            Self::LookupVerdict { set, sreg } => {
                out.text(1, set);
                reg(out, 2, *sreg);
                out.be32(3, REG_VERDICT);
            }
            Self::Immediate { dreg, data } => {
                reg(out, 1, *dreg);
                value(out, 2, data);
            }
            Self::Verdict(verdict) => {
                out.be32(1, REG_VERDICT);
                out.nest(2, |out| out.nest(NFTA_DATA_VERDICT, |out| verdict.encode(out)));
            }
            _ => self.encode_statement(out),
        }
    }

    fn encode_statement(&self, out: &mut Writer) {
        match self {
            Self::Nat {
                kind,
                family,
                addr,
                port,
                flags,
            } => {
                out.be32(1, kind.number());
                out.be32(2, u32::from(*family));
                optional_reg(out, 3, *addr);
                optional_reg(out, 5, *port);
                if flags.0 != 0 {
                    out.be32(7, flags.0);
                }
            }
            Self::Masquerade(flags) if flags.0 != 0 => out.be32(1, flags.0),
            Self::Reject(kind) => {
                let (number, code) = match kind {
                    RejectKind::Icmp(code) => (0, Some(*code)),
                    RejectKind::TcpReset => (1, None),
                    RejectKind::Icmpx(code) => (2, Some(*code)),
                };
                out.be32(1, number);
                if let Some(code) = code {
                    out.attr(2, &[code]);
                }
            }
            Self::Dynset {
                set,
                op,
                key,
                data,
                timeout,
            } => {
                out.text(1, set);
                out.be32(3, op.number());
                reg(out, 4, *key);
                optional_reg(out, 5, *data);
                if let Some(timeout) = timeout {
                    out.be64(6, timeout.as_millis() as u64);
                }
            }
            _ => {}
        }
    }
}
