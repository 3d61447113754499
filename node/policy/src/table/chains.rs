//! The rules of the chains that the plan asks for.

use std::sync::Arc;

use knode_nft::{CmpOp, Expr, Reg, Rule as NftRule, Verdict, matching};

use super::layout::Layout;
use crate::model::{Direction, Key, Peers, PortList, PortMatch, Ports, Rule, Selector};
use crate::plan::{ChainKey, NamedPorts, Planner, SetKey, Shape};

/// The kernel's remarks have at most 127 bytes.
const LONGEST_REMARK: usize = 120;

/// The rules of a chain.
pub(super) fn rules(plan: &Planner, layout: Layout, key: &ChainKey) -> Vec<NftRule> {
    match key {
        ChainKey::Shape(shape) => shape_rules(shape),
        ChainKey::Policy(direction, policy) => policy_rules(plan, layout, *direction, policy),
        ChainKey::Ports(direction, list) => ports_rules(layout, *direction, list),
    }
}

fn shape_rules(shape: &Shape) -> Vec<NftRule> {
    let chain = shape.name();
    let ask = |policy: &Key| {
        let name = ChainKey::Policy(shape.direction(), policy.clone()).name();
        NftRule::new(chain, [Expr::Verdict(Verdict::Jump(name))])
    };
    let mut rules: Vec<NftRule> = shape.policies().iter().map(ask).collect();
    rules.push(NftRule::new(chain, [Expr::Counter, Expr::Verdict(Verdict::Drop)]));
    rules
}

fn policy_rules(plan: &Planner, layout: Layout, direction: Direction, policy: &Key) -> Vec<NftRule> {
    let chain = ChainKey::Policy(direction, policy.clone()).name();
    let of_rule = |rule: &Rule| -> Vec<NftRule> {
        let end = match &rule.ports {
            Ports::All => Verdict::Accept,
            Ports::Some(list) => Verdict::Jump(ChainKey::Ports(direction, list.clone()).name()),
        };
        alternatives(layout, direction, &rule.peers)
            .into_iter()
            .map(|(mut exprs, comment)| {
                exprs.push(Expr::Verdict(end.clone()));
                NftRule {
                    comment,
                    ..NftRule::new(chain.clone(), exprs)
                }
            })
            .collect()
    };
    plan.rules(direction, policy).iter().flat_map(of_rule).collect()
}

/// What matches the peers, any of them, each with a remark.
fn alternatives(layout: Layout, direction: Direction, peers: &Peers) -> Vec<(Vec<Expr>, Option<String>)> {
    let Peers::Some { pods, blocks } = peers else {
        return vec![(Vec::new(), None)];
    };
    let among = |key: SetKey| vec![load_peer(layout, direction), lookup(&key)];
    let pods = pods
        .iter()
        .map(|selector| (among(SetKey::Pods(selector.clone())), Some(remark(selector))));
    let blocks = blocks
        .iter()
        .map(|blocks| (among(SetKey::Blocks(blocks.clone())), None));
    pods.chain(blocks).collect()
}

/// What a selector asks, for readers of `nft list`.
fn remark(selector: &Selector) -> String {
    let mut text = selector.to_string();
    let end = (0..=LONGEST_REMARK).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or_default());
    text
}

fn load_peer(layout: Layout, direction: Direction) -> Expr {
    match direction {
        Direction::Ingress => matching::load_saddr(Reg(0), layout.is_v6()),
        Direction::Egress => matching::load_daddr(Reg(0), layout.is_v6()),
    }
}

fn lookup(key: &SetKey) -> Expr {
    Expr::Lookup {
        set: key.name(),
        sreg: Reg(0),
        dreg: None,
        invert: false,
    }
}

fn ports_rules(layout: Layout, direction: Direction, list: &Arc<PortList>) -> Vec<NftRule> {
    let chain = ChainKey::Ports(direction, list.clone()).name();
    let rule = |item: &PortMatch| {
        let mut exprs = port(layout, direction, item);
        exprs.push(Expr::Verdict(Verdict::Accept));
        NftRule::new(chain.clone(), exprs)
    };
    list.items().iter().map(rule).collect()
}

fn port(layout: Layout, direction: Direction, item: &PortMatch) -> Vec<Expr> {
    match item {
        PortMatch::Protocol(protocol) => matching::l4proto(protocol.number()),
        PortMatch::Range {
            protocol,
            first,
            last,
        } => {
            let mut exprs = matching::l4proto(protocol.number());
            exprs.push(matching::load_dport(Reg(0)));
            let compare = |op, port: u16| Expr::Cmp {
                sreg: Reg(0),
                op,
                data: port.to_be_bytes().to_vec(),
            };
            if first == last {
                exprs.push(compare(CmpOp::Eq, *first));
            } else {
                exprs.extend([compare(CmpOp::Gte, *first), compare(CmpOp::Lte, *last)]);
            }
            exprs
        }
        PortMatch::Named { protocol, name } => {
            let ports = SetKey::Ports(NamedPorts::asked(direction, *protocol, name));
            vec![
                matching::load_daddr(Reg(0), layout.is_v6()),
                matching::load_l4proto(layout.after_address()),
                matching::load_dport(layout.after_protocol()),
                lookup(&ports),
            ]
        }
    }
}
