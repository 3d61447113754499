use knode_nft::{CmpOp, Expr, FibFlags, NatFlags, NatKind, Reg, Rule, Verdict, matching};

use super::TableConfig;
use super::config::{not_from, octets};
use super::elements::{AFFINITY, AFFINITY_HERE, ENDPOINTS, SPECIAL_ENDPOINTS};
use super::layout::Layout;
use super::skeleton::DROP;
use crate::model::IpFamily;
use crate::plan::{Frontend, KEPT, Kind, Place, Shape, Sticky};

/// Loads address, protocol and port of the frontend.
pub(super) fn load_frontend(layout: Layout, at: Reg, place: Option<Place>) -> Vec<Expr> {
    let load_address = match place {
        Some(place) => Expr::Immediate {
            dreg: at,
            data: octets(place.address(layout.0)),
        },
        None => matching::load_daddr(at, layout.is_v6()),
    };
    let proto = layout.after(at);
    vec![
        load_address,
        matching::load_l4proto(proto),
        matching::load_dport(Reg(proto.0 + 1)),
    ]
}

/// Goes on if the key at a register is in a set; loads the data that stands there.
pub(super) fn lookup(set: &str, sreg: Reg, dreg: Option<Reg>) -> Expr {
    Expr::Lookup {
        set: set.to_owned(),
        sreg,
        dreg,
        invert: false,
    }
}

/// Some of a frontend's endpoints, to be drawn from.
#[derive(Clone, Copy)]
struct Draw {
    first: u32,
    count: u32,
    sticky: Sticky,
}

/// The rules of the chain that picks an endpoint for frontends of this shape.
pub(super) fn rules(config: &TableConfig, family: IpFamily, shape: &Shape) -> Vec<Rule> {
    let layout = Layout(family);
    let chain = shape.to_string();
    let mut rules = Vec::new();
    if let Some(sources) = &shape.sources {
        let mut exprs = not_from(sources, family).unwrap_or_default();
        exprs.push(Expr::Verdict(Verdict::Goto(DROP.to_owned())));
        rules.push(Rule::new(chain.clone(), exprs).comment("not one of the source ranges"));
    }
    let all = Draw {
        first: 0,
        count: shape.endpoints,
        sticky: shape.sticky,
    };
    if shape.kind.keeps() {
        rules.extend(inside_rules(config, layout, shape, all));
        rules.extend(kept_rules(layout, shape));
        return rules;
    }
    if let Some(exprs) = masquerade(config, family, shape.kind) {
        rules.push(Rule::new(chain, exprs));
    }
    rules.extend(draw_rules(layout, shape, all, &[]));
    rules
}

/// Marks the packets that are to get the node's address as source.
fn masquerade(config: &TableConfig, family: IpFamily, kind: Kind) -> Option<Vec<Expr>> {
    let mark = matching::mark_set(config.mark());
    if kind != Kind::Cluster || config.masquerade_all {
        return Some(mark);
    }
    let elsewhere = config.elsewhere_match(family)?;
    Some([elsewhere, mark].concat())
}

/// Clients inside the cluster get any endpoint: pods as they are, the host under its address.
fn inside_rules(config: &TableConfig, layout: Layout, shape: &Shape, all: Draw) -> Vec<Rule> {
    let chain = shape.to_string();
    let mut rules = Vec::new();
    for from_pods in config.pods_match(layout.0) {
        if config.masquerade_all {
            let mark = matching::mark_set(config.mark());
            rules.push(Rule::new(chain.clone(), [from_pods.clone(), mark].concat()));
        }
        rules.extend(draw_rules(layout, shape, all, &from_pods));
    }
    let from_host = matching::addr_is_local(FibFlags::SADDR, CmpOp::Eq);
    let mark = matching::mark_set(config.mark());
    rules.push(Rule::new(chain, [from_host.clone(), mark].concat()));
    rules.extend(draw_rules(layout, shape, all, &from_host));
    rules
}

/// Clients outside get an endpoint here, and are not masqueraded.
fn kept_rules(layout: Layout, shape: &Shape) -> Vec<Rule> {
    if shape.kept == 0 {
        let drop = Expr::Verdict(Verdict::Goto(DROP.to_owned()));
        return vec![Rule::new(shape.to_string(), [drop])];
    }
    let kept = Draw {
        first: KEPT,
        count: shape.kept,
        sticky: match shape.sticky {
            Sticky::No => Sticky::No,
            Sticky::Any(home) | Sticky::Here(home) => Sticky::Here(home),
        },
    };
    draw_rules(layout, shape, kept, &[])
}

/// To the endpoint that the client had the last time, else to any, for packets that pass the test.
fn draw_rules(layout: Layout, shape: &Shape, draw: Draw, test: &[Expr]) -> Vec<Rule> {
    let chain = shape.to_string();
    let mut rules = Vec::new();
    if let Sticky::Any(home) | Sticky::Here(home) = draw.sticky {
        let known = known_client(layout, &home, draw.sticky == Sticky::Here(home));
        rules.push(
            Rule::new(chain.clone(), [test.to_vec(), known].concat()).comment("a client that is known"),
        );
    }
    let endpoints = if shape.is_plain() {
        ENDPOINTS
    } else {
        SPECIAL_ENDPOINTS
    };
    let drawn = |index: Expr| {
        let mut exprs = test.to_vec();
        exprs.extend(load_frontend(layout, Reg(0), shape.kind.place()));
        exprs.push(index);
        exprs.push(lookup(endpoints, Reg(0), Some(layout.drawn())));
        exprs.push(dnat(layout, layout.drawn()));
        Rule::new(chain.clone(), exprs)
    };
    let one_of = |modulus| Expr::NumGen {
        dreg: layout.index(),
        modulus,
        random: true,
        offset: draw.first,
    };
    rules.push(drawn(one_of(draw.count)));
    if draw.count > 1 {
        // A packet that is under way while the number goes down may draw one that is no more; the first still is.
        rules.push(drawn(one_of(1)));
    }
    rules
}

fn dnat(layout: Layout, endpoint: Reg) -> Expr {
    Expr::Nat {
        kind: NatKind::Dnat,
        family: layout.nfproto(),
        addr: Some(endpoint),
        port: Some(layout.after(endpoint)),
        flags: NatFlags::NONE,
    }
}

/// To where the client was sent the last time; what remembers it is in [`super::remember`].
fn known_client(layout: Layout, home: &Frontend, here: bool) -> Vec<Expr> {
    let endpoint = layout.remembered();
    let mut exprs = load_client(layout, home);
    let clients = if here { AFFINITY_HERE } else { AFFINITY };
    exprs.push(lookup(clients, Reg(0), Some(endpoint)));
    exprs.push(dnat(layout, endpoint));
    exprs
}

/// Loads the key of the map of clients.
pub(super) fn load_client(layout: Layout, home: &Frontend) -> Vec<Expr> {
    let proto = layout.after(layout.home());
    let constant = |dreg, data| Expr::Immediate { dreg, data };
    vec![
        matching::load_saddr(Reg(0), layout.is_v6()),
        constant(layout.home(), octets(home.place.address(layout.0))),
        matching::load_l4proto(proto),
        constant(Reg(proto.0 + 1), home.port.to_be_bytes().to_vec()),
    ]
}
