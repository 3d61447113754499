use knode_nft::matching::{
    addr_is_local, iifname, ipv4_daddr, ipv4_saddr, load_dport, load_ipv4_daddr, load_ipv4_saddr,
    load_l4proto, oifname,
};
use knode_nft::{
    Batch, Chain, ChainKind, CmpOp, Data, Element, Error, Expr, Family, FibFlags, FieldType, Hook, KeyType,
    NatFlags, NatKind, Reg, Rule, Set, Socket, TableRef, Verdict,
};
use std::net::Ipv4Addr;

use super::entry::Entry;

/// Name of the table, family `ip`.
pub const TABLE: &str = "knode-hostports";

/// (protocol, port) to (pod, port).
const ANY_ADDRESS: &str = "any-address";
/// (address, protocol, port) to (pod, port).
const ONE_ADDRESS: &str = "one-address";
/// (pod, pod): who reaches itself.
const ITSELF: &str = "itself";

const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const POSTROUTING: &str = "postrouting";
const GUARD: &str = "guard";
const PORTS: &str = "ports";
/// Before the services' (`dstnat` is -100): a host port is the more particular.
const PRIORITY_DNAT: i32 = -101;
const PRIORITY_SNAT: i32 = 100;
/// Before connection tracking, where answers are still addressed to the bridge.
const PRIORITY_RAW: i32 = -300;
const NFPROTO_IPV4: u8 = 2;
const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);

fn table() -> TableRef {
    TableRef::new(Family::Ip, TABLE)
}

fn sets() -> [Set; 3] {
    use FieldType::{InetProto, InetService, Ipv4Addr};
    let target = || KeyType::new([Ipv4Addr, InetService]);
    [
        Set::map(ANY_ADDRESS, KeyType::new([InetProto, InetService]), target()),
        Set::map(
            ONE_ADDRESS,
            KeyType::new([Ipv4Addr, InetProto, InetService]),
            target(),
        ),
        Set::plain(ITSELF, KeyType::new([Ipv4Addr, Ipv4Addr])),
    ]
}

/// Puts the rules in place of older ones; elements stay.
pub(super) fn base(bridge: &str) -> Batch {
    let mut batch = Batch::new(table());
    batch.add_table();
    sets().iter().for_each(|set| batch.add_set(set));
    let chains = [
        Chain::plain(PORTS),
        Chain::base(GUARD, ChainKind::Filter, Hook::Prerouting, PRIORITY_RAW),
        Chain::base(PREROUTING, ChainKind::Nat, Hook::Prerouting, PRIORITY_DNAT),
        Chain::base(OUTPUT, ChainKind::Nat, Hook::Output, PRIORITY_DNAT),
        Chain::base(POSTROUTING, ChainKind::Nat, Hook::Postrouting, PRIORITY_SNAT),
    ];
    for chain in &chains {
        batch.add_chain(chain);
        batch.flush_chain(&chain.name);
    }
    rules(bridge).iter().for_each(|rule| batch.append_rule(rule));
    batch
}

/// Leads ports to a pod.
pub(super) fn add(entries: &[Entry]) -> Batch {
    let mut batch = Batch::new(table());
    for entry in entries {
        batch.add_elements(map(entry), [Element::value(entry.key(), entry.value())]);
    }
    batch.add_elements(ITSELF, pods(entries).into_iter().map(Element::key));
    batch
}

/// Takes ports away, all of their pods.
pub(super) fn remove(entries: &[Entry]) -> Batch {
    let mut batch = Batch::new(table());
    for entry in entries {
        batch.delete_elements(map(entry), [Element::key(entry.key())]);
    }
    batch.delete_elements(ITSELF, pods(entries).into_iter().map(Element::key));
    batch
}

/// Removes the table, there or not.
pub(super) fn removal() -> Batch {
    let mut batch = Batch::new(table());
    batch.add_table();
    batch.delete_table();
    batch
}

/// The ports that the kernel holds.
pub(super) fn load(socket: &mut Socket) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    if !socket.has_table(&table())? {
        return Ok(entries);
    }
    for map in [ANY_ADDRESS, ONE_ADDRESS] {
        let elements = socket.elements(&table(), map, false)?;
        entries.extend(elements.iter().filter_map(|element| match &element.data {
            Some(Data::Value(value)) => Entry::parse(&element.key, value),
            _ => None,
        }));
    }
    Ok(entries)
}

fn map(entry: &Entry) -> &'static str {
    if entry.host_ip.is_some() {
        ONE_ADDRESS
    } else {
        ANY_ADDRESS
    }
}

/// Each pod once, twice in a key.
fn pods(entries: &[Entry]) -> Vec<Vec<u8>> {
    let mut pods: Vec<_> = entries
        .iter()
        .map(|e| [e.target.0.octets(), e.target.0.octets()].concat())
        .collect();
    pods.sort();
    pods.dedup();
    pods
}

fn rules(bridge: &str) -> [Rule; 7] {
    let to_us = || addr_is_local(FibFlags::DADDR, CmpOp::Eq);
    let ports = || vec![Expr::Verdict(Verdict::Jump(PORTS.into()))];
    let masquerade = || vec![Expr::Masquerade(NatFlags::FULLY_RANDOM)];
    let from_loopback = ipv4_saddr(CmpOp::Eq, LOOPBACK.0, LOOPBACK.1);
    let to_loopback = ipv4_daddr(CmpOp::Eq, LOOPBACK.0, LOOPBACK.1);
    let drop = vec![Expr::Verdict(Verdict::Drop)];
    let itself = vec![
        load_ipv4_saddr(Reg(0)),
        load_ipv4_daddr(Reg(1)),
        lookup(ITSELF, None),
    ];
    [
        rule(GUARD, [iifname(CmpOp::Eq, bridge), to_loopback, drop])
            .comment("pods must not reach our loopback"),
        rule(PREROUTING, [to_us(), ports()]),
        rule(OUTPUT, [to_us(), ports()]),
        rule(
            PORTS,
            [
                key([load_ipv4_daddr(Reg(0)), load_l4proto(Reg(1)), load_dport(Reg(2))]),
                dnat(ONE_ADDRESS),
            ],
        ),
        rule(
            PORTS,
            [key([load_l4proto(Reg(0)), load_dport(Reg(1))]), dnat(ANY_ADDRESS)],
        ),
        rule(
            POSTROUTING,
            [from_loopback, oifname(CmpOp::Eq, bridge), masquerade()],
        )
        .comment("loopback to a pod"),
        rule(POSTROUTING, [itself, masquerade()]).comment("a pod to itself"),
    ]
}

fn key<const N: usize>(loads: [Expr; N]) -> Vec<Expr> {
    loads.into()
}

fn lookup(set: &str, dreg: Option<Reg>) -> Expr {
    Expr::Lookup {
        set: set.to_owned(),
        sreg: Reg(0),
        dreg,
        invert: false,
    }
}

/// Looks the key up and translates to what is found.
fn dnat(map: &str) -> Vec<Expr> {
    let nat = Expr::Nat {
        kind: NatKind::Dnat,
        family: NFPROTO_IPV4,
        addr: Some(Reg(0)),
        port: Some(Reg(1)),
        flags: NatFlags::NONE,
    };
    vec![lookup(map, Some(Reg(0))), nat]
}

fn rule(chain: &str, parts: impl IntoIterator<Item = Vec<Expr>>) -> Rule {
    Rule::new(chain, parts.into_iter().flatten().collect::<Vec<_>>())
}
