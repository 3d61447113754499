//! Session affinity: which client was sent where is noted when its first packet leaves, translated.

use std::time::Duration;

use knode_nft::{CmpOp, CtDir, CtKey, DynsetOp, Expr, Reg, Rule, Verdict, matching};

use super::config::octets;
use super::elements::{AFFINITY, AFFINITY_HERE, HAIRPIN, REMEMBER, remember_chain};
use super::layout::Layout;
use super::pick::{load_client, lookup};
use crate::model::IpFamily;
use crate::plan::{Affinity, Place};

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
fn load_original(layout: Layout, at: Reg, place: Option<Place>) -> Vec<Expr> {
    let original = |dreg, key| Expr::Ct {
        dreg,
        key,
        dir: Some(CtDir::Original),
    };
    let key = if layout.is_v6() {
        CtKey::DstIp6
    } else {
        CtKey::DstIp
    };
    let address = match place {
        None => original(at, key),
        Some(place) => Expr::Immediate {
            dreg: at,
            data: octets(place.address(layout.0)),
        },
    };
    let proto = layout.after(at);
    vec![
        address,
        matching::load_l4proto(proto),
        original(Reg(proto.0 + 1), CtKey::ProtoDst),
    ]
}

/// The rules of [`NOTE`].
pub(super) fn note_rules(family: IpFamily) -> Vec<Rule> {
    let named = |place| {
        let mut exprs = load_original(Layout(family), Reg(0), place);
        exprs.push(Expr::LookupVerdict {
            set: REMEMBER.to_owned(),
            sreg: Reg(0),
        });
        Rule::new(NOTE, exprs)
    };
    vec![named(None), named(Some(Place::Node))]
}

/// The jump to [`NOTE`] for translated packets.
pub(super) fn jump_rule(chain: &str) -> Rule {
    let mut exprs = is_translated();
    exprs.push(Expr::Verdict(Verdict::Jump(NOTE.to_owned())));
    Rule::new(chain, exprs)
}

/// The rules that note the client and where it was sent, or restart its time.
pub(super) fn rules(family: IpFamily, affinity: &Affinity) -> Vec<Rule> {
    let layout = Layout(family);
    let mut here: Vec<Expr> = [Reg(0), Reg(layout.words())]
        .map(|reg| matching::load_daddr(reg, layout.is_v6()))
        .into();
    here.push(lookup(HAIRPIN, Reg(0), None));
    let chain = remember_chain(affinity);
    [(AFFINITY, Vec::new()), (AFFINITY_HERE, here)]
        .map(|(set, test)| Rule::new(chain.clone(), [test, note(layout, affinity, set)].concat()))
        .into()
}

fn note(layout: Layout, affinity: &Affinity, set: &str) -> Vec<Expr> {
    let endpoint = layout.remembered();
    let mut exprs = load_client(layout, &affinity.home);
    exprs.push(matching::load_daddr(endpoint, layout.is_v6()));
    exprs.push(matching::load_dport(layout.after(endpoint)));
    exprs.push(Expr::Dynset {
        set: set.to_owned(),
        op: DynsetOp::Update,
        key: Reg(0),
        data: Some(endpoint),
        timeout: Some(Duration::from_secs(u64::from(affinity.seconds))),
    });
    exprs
}
