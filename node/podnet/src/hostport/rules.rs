use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knode_nft::matching::{
    addr_is_local, daddr, iifname, load_daddr, load_dport, load_l4proto, load_saddr, oifname, saddr,
};
use knode_nft::{
    Batch, Chain, ChainKind, CmpOp, Data, Element, Error, Expr, Family, FibFlags, FieldType, Hook, KeyType,
    NatFlags, NatKind, Reg, Rule, Set, Socket, TableRef, Verdict,
};

use super::entry::{Entry, octets};

/// Name of the tables, one of the family `ip` and one of `ip6`.
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

/// A family of addresses, with its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ip {
    V4,
    V6,
}

impl Ip {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(entry: &Entry) -> Self {
        if entry.is_ipv6() { Self::V6 } else { Self::V4 }
    }

    pub fn family(self) -> Family {
        match self {
            Self::V4 => Family::Ip,
            Self::V6 => Family::Ip6,
        }
    }

    fn is_v6(self) -> bool {
        self == Self::V6
    }

    fn field(self) -> FieldType {
        match self {
            Self::V4 => FieldType::Ipv4Addr,
            Self::V6 => FieldType::Ipv6Addr,
        }
    }

    /// The register after an address that begins in register 0.
    fn after_address(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 4,
        }
    }

    fn loopback(self) -> (IpAddr, u8) {
        match self {
            Self::V4 => (Ipv4Addr::new(127, 0, 0, 0).into(), 8),
            Self::V6 => (Ipv6Addr::LOCALHOST.into(), 128),
        }
    }
}

fn table(ip: Ip) -> TableRef {
    TableRef::new(ip.family(), TABLE)
}

fn sets(ip: Ip) -> [Set; 3] {
    use FieldType::{InetProto, InetService};
    let address = ip.field();
    let target = || KeyType::new([address, InetService]);
    let one = KeyType::new([address, InetProto, InetService]);
    [
        Set::map(ANY_ADDRESS, KeyType::new([InetProto, InetService]), target()),
        Set::map(ONE_ADDRESS, one, target()),
        Set::plain(ITSELF, KeyType::new([address, address])),
    ]
}

/// Puts the rules in place of older ones; elements stay.
pub(super) fn base(bridge: &str, ip: Ip) -> Batch {
    let mut batch = Batch::new(table(ip));
    batch.add_table();
    sets(ip).iter().for_each(|set| batch.add_set(set));
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
    rules(bridge, ip).iter().for_each(|rule| batch.append_rule(rule));
    batch
}

/// Leads ports to a pod, in one family.
pub(super) fn add(ip: Ip, entries: &[Entry]) -> Batch {
    let mut batch = Batch::new(table(ip));
    for entry in entries {
        batch.add_elements(map(entry), [Element::value(entry.key(), entry.value())]);
    }
    batch.add_elements(ITSELF, pods(entries).into_iter().map(Element::key));
    batch
}

/// Takes ports away, all of their pods, in one family.
pub(super) fn remove(ip: Ip, entries: &[Entry]) -> Batch {
    let mut batch = Batch::new(table(ip));
    for entry in entries {
        batch.delete_elements(map(entry), [Element::key(entry.key())]);
    }
    batch.delete_elements(ITSELF, pods(entries).into_iter().map(Element::key));
    batch
}

/// Removes the table of a family; none is no error.
pub(super) fn tear_down(socket: &mut Socket, ip: Ip) -> Result<(), Error> {
    if !socket.has_table(&table(ip))? {
        return Ok(());
    }
    let mut batch = Batch::new(table(ip));
    batch.delete_table();
    match socket.commit(&batch) {
        // Somebody was faster.
        Err(error) if error.errno() == Some(nix::libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// The ports that the kernel holds in a family.
pub(super) fn load(socket: &mut Socket, ip: Ip) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    if !socket.has_table(&table(ip))? {
        return Ok(entries);
    }
    for map in [ANY_ADDRESS, ONE_ADDRESS] {
        let elements = socket.elements(&table(ip), map, false)?;
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
    let mut pods: Vec<_> = entries.iter().map(|e| octets(e.target.0).repeat(2)).collect();
    pods.sort();
    pods.dedup();
    pods
}

fn rules(bridge: &str, ip: Ip) -> [Rule; 7] {
    let to_us = || addr_is_local(FibFlags::DADDR, CmpOp::Eq);
    let ports = || vec![Expr::Verdict(Verdict::Jump(PORTS.into()))];
    let masquerade = || vec![Expr::Masquerade(NatFlags::FULLY_RANDOM)];
    let (loopback, bits) = ip.loopback();
    let from_loopback = saddr(CmpOp::Eq, loopback, bits);
    let to_loopback = daddr(CmpOp::Eq, loopback, bits);
    // A packet of ::1 would not leave the host: nothing like `route_localnet` allows it.
    let not_to_own_loopback = match ip {
        Ip::V4 => Vec::new(),
        Ip::V6 => daddr(CmpOp::Neq, loopback, bits),
    };
    let drop = vec![Expr::Verdict(Verdict::Drop)];
    let after = ip.after_address();
    let itself = vec![
        load_saddr(Reg(0), ip.is_v6()),
        load_daddr(Reg(after), ip.is_v6()),
        lookup(ITSELF, None),
    ];
    let one_address = vec![
        load_daddr(Reg(0), ip.is_v6()),
        load_l4proto(Reg(after)),
        load_dport(Reg(after + 1)),
    ];
    let any_address = vec![load_l4proto(Reg(0)), load_dport(Reg(1))];
    [
        rule(GUARD, [iifname(CmpOp::Eq, bridge), to_loopback, drop])
            .comment("pods must not reach our loopback"),
        rule(PREROUTING, [to_us(), ports()]),
        rule(OUTPUT, [to_us(), not_to_own_loopback, ports()]),
        rule(PORTS, [one_address, dnat(ONE_ADDRESS, ip)]),
        rule(PORTS, [any_address, dnat(ANY_ADDRESS, ip)]),
        rule(
            POSTROUTING,
            [from_loopback, oifname(CmpOp::Eq, bridge), masquerade()],
        )
        .comment("loopback to a pod"),
        rule(POSTROUTING, [itself, masquerade()]).comment("a pod to itself"),
    ]
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
fn dnat(map: &str, ip: Ip) -> Vec<Expr> {
    let nat = Expr::Nat {
        kind: NatKind::Dnat,
        family: ip.family().number(),
        addr: Some(Reg(0)),
        port: Some(Reg(ip.after_address())),
        flags: NatFlags::NONE,
    };
    vec![lookup(map, Some(Reg(0))), nat]
}

fn rule(chain: &str, parts: impl IntoIterator<Item = Vec<Expr>>) -> Rule {
    Rule::new(chain, parts.into_iter().flatten().collect::<Vec<_>>())
}
