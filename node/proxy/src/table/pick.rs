use std::net::IpAddr;

use knode_nft::{CmpOp, Expr, FibFlags, NatFlags, NatKind, Reg, Rule, Verdict, matching};

use super::TableConfig;
use super::elements::{AFFINITY, ENDPOINTS};
use crate::plan::{Kind, Place, Shape};

const NFPROTO_IPV4: u8 = 2;
/// Address, protocol, port and index of the frontend.
const FRONTEND: Reg = Reg(0);
const INDEX: Reg = Reg(3);
/// Address and port of the endpoint.
const ENDPOINT: Reg = Reg(4);
/// Client, address, protocol and port.
const CLIENT: Reg = Reg(8);

/// Loads address, protocol and port of the frontend into registers 0 to 2.
pub(super) fn load_frontend(place: Option<Place>) -> Vec<Expr> {
    load_key(FRONTEND, place.map(Place::address))
}

fn load_key(at: Reg, address: Option<IpAddr>) -> Vec<Expr> {
    let load_address = match address {
        Some(IpAddr::V4(address)) => Expr::Immediate {
            dreg: at,
            data: address.octets().to_vec(),
        },
        _ => matching::load_ipv4_daddr(at),
    };
    let mut exprs = vec![load_address];
    exprs.extend([
        matching::load_l4proto(Reg(at.0 + 1)),
        matching::load_dport(Reg(at.0 + 2)),
    ]);
    exprs
}

/// The rules of the chain that picks an endpoint for frontends of this shape.
pub(super) fn rules(config: &TableConfig, shape: Shape) -> Vec<Rule> {
    let chain = shape.to_string();
    let mut rules: Vec<Rule> = source_rules(config, shape.kind)
        .into_iter()
        .map(|exprs| Rule::new(chain.clone(), exprs))
        .collect();
    if shape.endpoints == 0 {
        rules.push(Rule::new(chain, [Expr::Verdict(Verdict::Drop)]));
        return rules;
    }
    if shape.sticky {
        rules.push(Rule::new(chain.clone(), known_client()).comment("a client that is known"));
    }
    rules.push(Rule::new(chain, [draw(shape), vec![dnat()]].concat()));
    rules
}

/// What the kind asks for before an endpoint is chosen.
fn source_rules(config: &TableConfig, kind: Kind) -> Vec<Vec<Expr>> {
    let mark = || matching::mark_set(config.mark());
    let from_pods = |op| {
        config
            .cluster_cidr
            .map(|cidr| matching::ipv4_saddr(op, cidr.network(), cidr.prefix_len()))
    };
    let and = |test: Vec<Expr>, then: Vec<Expr>| [test, then].concat();
    let to_return = || vec![Expr::Verdict(Verdict::Return)];
    match kind {
        Kind::External | Kind::Node => vec![mark()],
        Kind::ExternalLocal => Vec::new(),
        Kind::Cluster => from_pods(CmpOp::Neq)
            .map(|outside| and(outside, mark()))
            .into_iter()
            .collect(),
        Kind::NodeInside => match from_pods(CmpOp::Neq) {
            Some(outside) => vec![and(outside, mark())],
            None => vec![mark()],
        },
        Kind::NodeFromOutside => {
            let local = and(matching::addr_is_local(FibFlags::SADDR, CmpOp::Eq), to_return());
            let pods = from_pods(CmpOp::Eq).map(|inside| and(inside, to_return()));
            pods.into_iter().chain([local]).collect()
        }
    }
}

/// Draws an index and loads the endpoint that it stands for.
fn draw(shape: Shape) -> Vec<Expr> {
    let mut exprs = load_frontend(shape.kind.place());
    exprs.push(Expr::NumGen {
        dreg: INDEX,
        modulus: shape.endpoints,
        random: true,
        offset: 0,
    });
    exprs.push(Expr::Lookup {
        set: ENDPOINTS.to_owned(),
        sreg: FRONTEND,
        dreg: Some(ENDPOINT),
        invert: false,
    });
    exprs
}

fn dnat() -> Expr {
    let (addr, port) = (Some(ENDPOINT), Some(Reg(ENDPOINT.0 + 1)));
    Expr::Nat {
        kind: NatKind::Dnat,
        family: NFPROTO_IPV4,
        addr,
        port,
        flags: NatFlags::NONE,
    }
}

/// To where the client was sent the last time; what remembers it is in [`super::remember`].
fn known_client() -> Vec<Expr> {
    let mut exprs = vec![matching::load_ipv4_saddr(CLIENT)];
    exprs.extend(load_key(Reg(CLIENT.0 + 1), None));
    exprs.push(Expr::Lookup {
        set: AFFINITY.to_owned(),
        sreg: CLIENT,
        dreg: Some(ENDPOINT),
        invert: false,
    });
    exprs.push(dnat());
    exprs
}
