use knode_nft::{
    Chain, ChainKind, CmpOp, CtKey, Expr, Hook, PayloadBase, Reg, Rule, Ruleset, Set, Verdict, matching,
};

use super::chains;
use super::elements::{SELF, verdict_map};
use super::layout::{Layout, base_chain};
use crate::model::{Direction, IpFamily};
use crate::plan::Planner;

/// Where filters sit among the chains of a hook.
const PRIORITY_FILTER: i32 = 0;
const STATE_ESTABLISHED: u32 = 2;
const STATE_RELATED: u32 = 4;
const ICMPV6: u8 = 58;
/// Router and neighbour discovery: solicitations and advertisements. They pass a bridge as other packets do.
const DISCOVERY: [u8; 2] = [133, 136];

/// The table of a family.
pub fn ruleset(plan: &Planner, family: IpFamily) -> Ruleset {
    let layout = Layout(family);
    let mut sets = vec![Set::plain(SELF, layout.pair())];
    sets.extend(Direction::ALL.map(|direction| Set::verdict_map(verdict_map(direction), layout.one())));
    sets.extend(plan.sets().map(|key| layout.set(&key)));
    let (mut planned, mut rules) = (Vec::new(), Vec::new());
    for key in plan.chains() {
        planned.push(Chain::plain(key.name()));
        rules.extend(chains::rules(plan, layout, &key));
    }
    for direction in Direction::ALL {
        let chain = base_chain(direction);
        planned.push(Chain::base(
            chain,
            ChainKind::Filter,
            Hook::Forward,
            PRIORITY_FILTER,
        ));
        rules.extend(base_rules(layout, direction));
    }
    Ruleset {
        sets,
        chains: planned,
        rules,
    }
}

fn base_rules(layout: Layout, direction: Direction) -> Vec<Rule> {
    let accept = |mut exprs: Vec<Expr>| {
        exprs.push(Expr::Verdict(Verdict::Accept));
        Rule::new(base_chain(direction), exprs)
    };
    let mut rules = vec![accept(is_answer()).comment("what was allowed once goes on")];
    if layout.is_v6() {
        rules.push(accept(is_discovery()).comment("without it there is no neighbour"));
    }
    let itself = vec![
        matching::load_saddr(Reg(0), layout.is_v6()),
        matching::load_daddr(layout.after_address(), layout.is_v6()),
        Expr::Lookup {
            set: SELF.to_owned(),
            sreg: Reg(0),
            dreg: None,
            invert: false,
        },
    ];
    rules.push(accept(itself).comment("a pod that reaches itself by a service"));
    let load = match direction {
        Direction::Ingress => matching::load_daddr(Reg(0), layout.is_v6()),
        Direction::Egress => matching::load_saddr(Reg(0), layout.is_v6()),
    };
    let lead = Expr::LookupVerdict {
        set: verdict_map(direction).to_owned(),
        sreg: Reg(0),
    };
    rules.push(Rule::new(base_chain(direction), [load, lead]));
    rules
}

/// The packet belongs to a connection that was let through, or is an error about one.
fn is_answer() -> Vec<Expr> {
    let mask = (STATE_ESTABLISHED | STATE_RELATED).to_ne_bytes().to_vec();
    vec![
        Expr::Ct {
            dreg: Reg(0),
            key: CtKey::State,
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

fn is_discovery() -> Vec<Expr> {
    let mut exprs = matching::l4proto(ICMPV6);
    exprs.push(Expr::Payload {
        dreg: Reg(0),
        base: PayloadBase::Transport,
        offset: 0,
        len: 1,
    });
    let [first, last] = DISCOVERY;
    for (op, kind) in [(CmpOp::Gte, first), (CmpOp::Lte, last)] {
        exprs.push(Expr::Cmp {
            sreg: Reg(0),
            op,
            data: vec![kind],
        });
    }
    exprs
}
