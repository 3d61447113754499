use std::net::{IpAddr, Ipv6Addr};

use knode_nft::{
    Chain, ChainKind, CmpOp, Expr, FibFlags, Hook, NatFlags, Reg, RejectKind, Rule, Ruleset, Set, Verdict,
    matching,
};

use super::config::of_family;
use super::elements::{
    AFFINITY, AFFINITY_HERE, ENDPOINTS, HAIRPIN, NO_ENDPOINTS, REMEMBER, SERVICES, SPECIAL_ENDPOINTS,
    remember_chain,
};
use super::layout::Layout;
use super::remember::NOTE;
use super::{TableConfig, dispatch, pick, remember};
use crate::model::{IpFamily, Protocol};
use crate::plan::{Kind, Place, Plan, Shape};

/// The chain that refuses packets.
pub const REJECT: &str = "reject";
/// The chain that discards packets.
pub const DROP: &str = "drop";
const SERVICE_CHAIN: &str = "services";
const NODE_PORTS: &str = "node-ports";
const ICMP_PORT_UNREACHABLE: u8 = 3;
const ICMPV6_PORT_UNREACHABLE: u8 = 4;
const PRIORITY_DSTNAT: i32 = -100;
const PRIORITY_SRCNAT: i32 = 100;
/// Clients that are remembered at most.
const AFFINITY_SIZE: u32 = 65535;

/// The table for the shapes and times that the plan uses.
pub fn ruleset(config: &TableConfig, plan: &Plan) -> Ruleset {
    let mut chains: Vec<Chain> = [REJECT, DROP, NODE_PORTS, SERVICE_CHAIN, NOTE]
        .into_iter()
        .map(Chain::plain)
        .collect();
    let family = plan.family();
    let mut rules = static_rules(config, family);
    for affinity in plan.affinities() {
        chains.push(Chain::plain(remember_chain(&affinity)));
        rules.extend(remember::rules(family, &affinity));
    }
    let plain = plan.shapes().filter(Shape::is_plain).collect();
    for (name, paths) in dispatch::chains(family, &plain) {
        chains.push(Chain::plain(name));
        rules.extend(paths);
    }
    for shape in plan.chained() {
        chains.push(Chain::plain(shape.to_string()));
        rules.extend(pick::rules(config, family, shape));
    }
    chains.extend([
        Chain::base("prerouting", ChainKind::Nat, Hook::Prerouting, PRIORITY_DSTNAT),
        Chain::base("output", ChainKind::Nat, Hook::Output, PRIORITY_DSTNAT),
        Chain::base("input", ChainKind::Nat, Hook::Input, PRIORITY_SRCNAT),
        Chain::base("postrouting", ChainKind::Nat, Hook::Postrouting, PRIORITY_SRCNAT),
    ]);
    Ruleset {
        sets: sets(Layout(family)),
        chains,
        rules,
    }
}

fn sets(layout: Layout) -> Vec<Set> {
    let clients = |name| Set {
        timeout: true,
        dynamic: true,
        size: Some(AFFINITY_SIZE),
        ..Set::map(name, layout.client(), layout.endpoint())
    };
    let plain = |name| Set::plain(name, layout.frontend());
    let counted = |set| Set { counter: true, ..set };
    let members = Kind::PLAIN.map(|kind| counted(plain(dispatch::members(kind))));
    let mut sets: Vec<Set> = dispatch::COUNTS.map(plain).into();
    sets.extend(members);
    sets.extend([
        counted(plain(NO_ENDPOINTS)),
        counted(Set::verdict_map(SERVICES, layout.frontend())),
        Set::verdict_map(REMEMBER, layout.frontend()),
        Set::map(ENDPOINTS, layout.numbered(), layout.endpoint()),
        Set::map(SPECIAL_ENDPOINTS, layout.numbered(), layout.endpoint()),
        Set::plain(HAIRPIN, layout.pair()),
        clients(AFFINITY),
        clients(AFFINITY_HERE),
    ]);
    sets
}

fn rule(chain: &str, exprs: Vec<Expr>, verdict: Verdict) -> Rule {
    Rule::new(chain, [exprs, vec![Expr::Verdict(verdict)]].concat())
}

fn static_rules(config: &TableConfig, family: IpFamily) -> Vec<Rule> {
    let unreachable = match family {
        IpFamily::V4 => ICMP_PORT_UNREACHABLE,
        IpFamily::V6 => ICMPV6_PORT_UNREACHABLE,
    };
    let layout = Layout(family);
    let mut rules = vec![
        refuse_tcp(),
        Rule::new(REJECT, [Expr::Reject(RejectKind::Icmp(unreachable))]),
        rule(DROP, Vec::new(), Verdict::Drop),
    ];
    rules.extend(lookups(
        layout,
        SERVICE_CHAIN,
        None,
        &[Kind::Cluster, Kind::External],
    ));
    rules.extend(lookups(layout, NODE_PORTS, Some(Place::Node), &[Kind::Node]));
    rules.extend(service_rules(config, family));
    for hook in ["prerouting", "output"] {
        rules.push(rule(hook, Vec::new(), Verdict::Jump(SERVICE_CHAIN.to_owned())));
    }
    rules.extend(remember::note_rules(family));
    rules.extend(masquerade_rules(config, layout));
    rules
}

/// A client's TCP gives up at once when it is reset; an unreachable message that comes while it is still busy with
/// sending makes it try for a second.
fn refuse_tcp() -> Rule {
    let mut exprs = matching::l4proto(Protocol::Tcp.number());
    exprs.push(Expr::Reject(RejectKind::TcpReset));
    Rule::new(REJECT, exprs)
}

/// To where the frontends of a place lead: plain ones by their kind, the others by a verdict of their own.
fn lookups(layout: Layout, chain: &str, place: Option<Place>, kinds: &[Kind]) -> Vec<Rule> {
    let key = || pick::load_frontend(layout, Reg(0), place);
    let member = |set: &str, to: &str| {
        let verdict = Expr::Verdict(Verdict::Goto(to.to_owned()));
        let test = pick::lookup(set, Reg(0), None);
        Rule::new(chain, [key(), vec![test, verdict]].concat())
    };
    let plain = kinds
        .iter()
        .map(|kind| member(dispatch::members(*kind), kind.word()));
    let mut rules: Vec<Rule> = plain.collect();
    let special = Expr::LookupVerdict {
        set: SERVICES.to_owned(),
        sreg: Reg(0),
    };
    rules.push(Rule::new(chain, [key(), vec![special]].concat()));
    rules.push(member(NO_ENDPOINTS, REJECT));
    rules
}

/// What becomes of packets to no address of a Service: refused in the service networks, looked up as node ports
/// on the host's addresses.
fn service_rules(config: &TableConfig, family: IpFamily) -> Vec<Rule> {
    let mut rules = Vec::new();
    for cidr in of_family(&config.service_cidrs, family) {
        let inside = matching::daddr(CmpOp::Eq, cidr.network(), cidr.prefix_len());
        let reject = rule(SERVICE_CHAIN, inside, Verdict::Goto(REJECT.to_owned()));
        rules.push(reject.comment("no service has this port"));
    }
    let elsewhere = matching::addr_is_local(FibFlags::DADDR, CmpOp::Neq);
    rules.push(rule(SERVICE_CHAIN, elsewhere, Verdict::Return));
    let (loopback, bits) = match family {
        IpFamily::V4 => (IpAddr::from([127, 0, 0, 0]), 8),
        IpFamily::V6 => (Ipv6Addr::LOCALHOST.into(), 128),
    };
    let loopback = matching::daddr(CmpOp::Eq, loopback, bits);
    rules.push(rule(SERVICE_CHAIN, loopback, Verdict::Return));
    let to_node_ports = || Verdict::Goto(NODE_PORTS.to_owned());
    let served: Vec<Vec<Expr>> = of_family(&config.node_port_addresses, family)
        .map(|cidr| matching::daddr(CmpOp::Eq, cidr.network(), cidr.prefix_len()))
        .collect();
    if served.is_empty() {
        rules.push(rule(SERVICE_CHAIN, Vec::new(), to_node_ports()));
    }
    rules.extend(
        served
            .into_iter()
            .map(|inside| rule(SERVICE_CHAIN, inside, to_node_ports())),
    );
    rules
}

fn masquerade_rules(config: &TableConfig, layout: Layout) -> Vec<Rule> {
    let mark = config.mark();
    let mut marked = matching::mark_has(CmpOp::Eq, mark);
    marked.extend(matching::mark_clear(mark));
    marked.push(Expr::Masquerade(NatFlags::FULLY_RANDOM));
    let mut hairpin = remember::is_translated();
    hairpin.extend([
        matching::load_saddr(Reg(0), layout.is_v6()),
        matching::load_daddr(Reg(layout.words()), layout.is_v6()),
        pick::lookup(HAIRPIN, Reg(0), None),
        Expr::Masquerade(NatFlags::FULLY_RANDOM),
    ]);
    vec![
        remember::jump_rule("postrouting"),
        remember::jump_rule("input"),
        Rule::new("postrouting", marked),
        Rule::new("postrouting", hairpin).comment("an endpoint that reaches itself"),
    ]
}
