//! Session affinity: which client was sent where is noted when its first packet leaves, translated.

use std::time::Duration;

use knode_nft::{CmpOp, CtDir, CtKey, DynsetOp, Expr, Reg, Rule, Verdict, matching};

use super::elements::{AFFINITY, REMEMBER, remember_chain};
use crate::plan::Place;

/// The chain in which a translated packet is looked at.
pub(super) const NOTE: &str = "note-client";
/// `IPS_DST_NAT`.
const STATUS_DNAT: u32 = 1 << 5;

/// The connection's destination was translated, by us or by others.
pub(super) fn is_translated() -> Vec<Expr> {
    let mask = STATUS_DNAT.to_ne_bytes().to_vec();
    vec![
        Expr::Ct {
            dreg: Reg(0),
            key: CtKey::Status,
            dir: None,
        },
        Expr::Bitwise {
            sreg: Reg(0),
            dreg: Reg(0),
            mask,
            xor: vec![0; 4],
        },
        Expr::Cmp {
            sreg: Reg(0),
            op: CmpOp::Neq,
            data: vec![0; 4],
        },
    ]
}

/// Loads the address that the client used, the protocol and the port.
fn load_original(at: Reg, place: Option<Place>) -> Vec<Expr> {
    let original = |dreg, key| Expr::Ct {
        dreg,
        key,
        dir: Some(CtDir::Original),
    };
    let address = match place {
        None => original(at, CtKey::DstIp),
        Some(_) => Expr::Immediate {
            dreg: at,
            data: Place::NODE.octets().to_vec(),
        },
    };
    vec![
        address,
        matching::load_l4proto(Reg(at.0 + 1)),
        original(Reg(at.0 + 2), CtKey::ProtoDst),
    ]
}

/// The rules of [`NOTE`].
pub(super) fn note_rules() -> Vec<Rule> {
    let lookup = |place| {
        let mut exprs = load_original(Reg(0), place);
        exprs.push(Expr::LookupVerdict {
            set: REMEMBER.to_owned(),
            sreg: Reg(0),
        });
        Rule::new(NOTE, exprs)
    };
    vec![lookup(None), lookup(Some(Place::Node))]
}

/// The jump to [`NOTE`] for translated packets.
pub(super) fn jump_rule(chain: &str) -> Rule {
    let mut exprs = is_translated();
    exprs.push(Expr::Verdict(Verdict::Jump(NOTE.to_owned())));
    Rule::new(chain, exprs)
}

/// The rule that notes the client and where it was sent, or restarts its time.
pub(super) fn rule(seconds: u32) -> Rule {
    let mut exprs = vec![matching::load_ipv4_saddr(Reg(0))];
    exprs.extend(load_original(Reg(1), None));
    exprs.extend([matching::load_ipv4_daddr(Reg(4)), matching::load_dport(Reg(5))]);
    exprs.push(Expr::Dynset {
        set: AFFINITY.to_owned(),
        op: DynsetOp::Update,
        key: Reg(0),
        data: Some(Reg(4)),
        timeout: Some(Duration::from_secs(u64::from(seconds))),
    });
    Rule::new(remember_chain(seconds), exprs)
}
