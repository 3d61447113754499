use knode_nft::{
    Chain, ChainKind, CmpOp, Expr, FibFlags, FieldType, Hook, KeyType, NatFlags, Reg, RejectKind, Rule, Set,
    Verdict, matching,
};

use super::elements::{AFFINITY, ENDPOINTS, HAIRPIN, REMEMBER, SERVICES, remember_chain};
use super::remember::NOTE;
use super::{TableConfig, pick, remember};
use crate::plan::{Place, Plan};

pub(super) const REJECT: &str = "reject";
pub(super) const DROP: &str = "drop";
const SERVICE_CHAIN: &str = "services";
const NODE_PORTS: &str = "node-ports";
const ICMP_PORT_UNREACHABLE: u8 = 3;
const PRIORITY_DSTNAT: i32 = -100;
const PRIORITY_SRCNAT: i32 = 100;
/// Clients that are remembered at most.
const AFFINITY_SIZE: u32 = 65535;

/// The table without its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Its sets and maps.
    pub sets: Vec<Set>,
    /// Its chains, those without a hook first.
    pub chains: Vec<Chain>,
    /// Its rules, in order within each chain.
    pub rules: Vec<Rule>,
}

/// The table for the shapes and times that the plan uses.
pub fn ruleset(config: &TableConfig, plan: &Plan) -> Ruleset {
    let mut chains: Vec<Chain> = [REJECT, DROP, NODE_PORTS, SERVICE_CHAIN, NOTE]
        .into_iter()
        .map(Chain::plain)
        .collect();
    let mut rules = static_rules(config);
    for seconds in plan.timeouts() {
        chains.push(Chain::plain(remember_chain(seconds)));
        rules.push(remember::rule(seconds));
    }
    for shape in plan.shapes() {
        chains.push(Chain::plain(shape.to_string()));
        rules.extend(pick::rules(config, shape));
    }
    chains.extend([
        Chain::base("prerouting", ChainKind::Nat, Hook::Prerouting, PRIORITY_DSTNAT),
        Chain::base("output", ChainKind::Nat, Hook::Output, PRIORITY_DSTNAT),
        Chain::base("input", ChainKind::Nat, Hook::Input, PRIORITY_SRCNAT),
        Chain::base("postrouting", ChainKind::Nat, Hook::Postrouting, PRIORITY_SRCNAT),
    ]);
    Ruleset {
        sets: sets(),
        chains,
        rules,
    }
}

fn sets() -> Vec<Set> {
    use FieldType::{InetProto, InetService, Ipv4Addr, Mark};
    let endpoint = || KeyType::new([Ipv4Addr, InetService]);
    let sticky = Set::map(
        AFFINITY,
        KeyType::new([Ipv4Addr, Ipv4Addr, InetProto, InetService]),
        endpoint(),
    );
    vec![
        Set::verdict_map(SERVICES, KeyType::new([Ipv4Addr, InetProto, InetService])),
        Set::verdict_map(REMEMBER, KeyType::new([Ipv4Addr, InetProto, InetService])),
        Set::map(
            ENDPOINTS,
            KeyType::new([Ipv4Addr, InetProto, InetService, Mark]),
            endpoint(),
        ),
        Set::plain(HAIRPIN, KeyType::new([Ipv4Addr, Ipv4Addr])),
        Set {
            timeout: true,
            dynamic: true,
            size: Some(AFFINITY_SIZE),
            ..sticky
        },
    ]
}

fn rule(chain: &str, exprs: Vec<Expr>, verdict: Verdict) -> Rule {
    Rule::new(chain, [exprs, vec![Expr::Verdict(verdict)]].concat())
}

fn static_rules(config: &TableConfig) -> Vec<Rule> {
    let mut rules = vec![
        Rule::new(REJECT, [Expr::Reject(RejectKind::Icmp(ICMP_PORT_UNREACHABLE))]),
        rule(DROP, Vec::new(), Verdict::Drop),
    ];
    rules.extend([Place::NodeFromOutside, Place::Node].map(node_port_lookup));
    rules.extend(service_rules(config));
    for hook in ["prerouting", "output"] {
        rules.push(rule(hook, Vec::new(), Verdict::Jump(SERVICE_CHAIN.to_owned())));
    }
    rules.extend(remember::note_rules());
    rules.extend(masquerade_rules(config));
    rules
}

fn node_port_lookup(place: Place) -> Rule {
    let mut exprs = pick::load_frontend(Some(place));
    exprs.push(Expr::LookupVerdict {
        set: SERVICES.to_owned(),
        sreg: Reg(0),
    });
    Rule::new(NODE_PORTS, exprs)
}

fn service_rules(config: &TableConfig) -> Vec<Rule> {
    let mut lookup = pick::load_frontend(None);
    lookup.push(Expr::LookupVerdict {
        set: SERVICES.to_owned(),
        sreg: Reg(0),
    });
    let mut rules = vec![Rule::new(SERVICE_CHAIN, lookup)];
    if let Some(cidr) = config.service_cidr {
        let inside = matching::ipv4_daddr(CmpOp::Eq, cidr.network(), cidr.prefix_len());
        let reject = rule(SERVICE_CHAIN, inside, Verdict::Goto(REJECT.to_owned()));
        rules.push(reject.comment("no service has this port"));
    }
    let elsewhere = matching::addr_is_local(FibFlags::DADDR, CmpOp::Neq);
    rules.push(rule(SERVICE_CHAIN, elsewhere, Verdict::Return));
    let loopback = matching::ipv4_daddr(CmpOp::Eq, [127, 0, 0, 0].into(), 8);
    rules.push(rule(SERVICE_CHAIN, loopback, Verdict::Return));
    let to_node_ports = || Verdict::Goto(NODE_PORTS.to_owned());
    if config.node_port_addresses.is_empty() {
        rules.push(rule(SERVICE_CHAIN, Vec::new(), to_node_ports()));
    }
    for cidr in &config.node_port_addresses {
        let inside = matching::ipv4_daddr(CmpOp::Eq, cidr.network(), cidr.prefix_len());
        rules.push(rule(SERVICE_CHAIN, inside, to_node_ports()));
    }
    rules
}

fn masquerade_rules(config: &TableConfig) -> Vec<Rule> {
    let mark = config.mark();
    let mut marked = matching::mark_has(CmpOp::Eq, mark);
    marked.extend(matching::mark_clear(mark));
    marked.push(Expr::Masquerade(NatFlags::FULLY_RANDOM));
    let mut hairpin = remember::is_translated();
    hairpin.extend([
        matching::load_ipv4_saddr(Reg(0)),
        matching::load_ipv4_daddr(Reg(1)),
        Expr::Lookup {
            set: HAIRPIN.to_owned(),
            sreg: Reg(0),
            dreg: None,
            invert: false,
        },
        Expr::Masquerade(NatFlags::FULLY_RANDOM),
    ]);
    vec![
        remember::jump_rule("postrouting"),
        remember::jump_rule("input"),
        Rule::new("postrouting", marked),
        Rule::new("postrouting", hairpin).comment("an endpoint that reaches itself"),
    ]
}
