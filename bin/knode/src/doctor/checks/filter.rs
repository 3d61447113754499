//! What packet filters do with the first packet of a connection, as far as that can be told; pure.
//!
//! Of the packet are known: protocol, destination port, the link that it comes by, and that its connection is new. A
//! condition on anything else may hold or not.

use std::collections::HashMap;

use knode_nft::{
    ChainKind, CmpOp, CtKey, Data, Element, Expr, Hook, MetaKey, PayloadBase, Policy, Reg, Rule, Verdict,
};

use crate::doctor::facts::{Protocol, Table};

/// `ct state new`.
const NEW: u32 = 8;
const IPV4: u8 = 2;
const ETHERTYPE_IPV4: u16 = 0x0800;
/// Chains call one another no deeper (`NFT_JUMP_STACK_SIZE`).
const DEPTH: u8 = 16;
const NAME_SIZE: usize = 16;

/// The packet.
#[derive(Clone, Debug)]
pub struct Packet {
    pub protocol: Protocol,
    pub port: u16,
    /// Name and index of the link that it comes by, if known.
    pub arrival: Option<(String, Option<u32>)>,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Passes,
    /// It passes only if conditions hold that are not known, such as its sender; here it would end.
    Perhaps(String),
    /// It ends here.
    Blocked(String),
}

/// Follows a packet through the filters of a hook.
pub fn follow(tables: &[Table], hook: Hook, packet: &Packet) -> Fate {
    let mut bases: Vec<_> = tables
        .iter()
        .flat_map(|table| table.chains.iter().map(move |chain| (table, chain)))
        .filter_map(|(table, chain)| {
            let spec = chain.hook.as_ref()?;
            (spec.hook == hook && spec.kind == ChainKind::Filter).then_some((
                spec.priority,
                table,
                chain,
                spec.policy,
            ))
        })
        .collect();
    bases.sort_by_key(|base| base.0);
    for (_, table, chain, policy) in bases {
        let mut walk = Walk {
            table,
            packet,
            perhaps_passes: false,
        };
        let place = match walk.chain(&chain.name, DEPTH) {
            Way::Accepted => continue,
            Way::Dropped(rule) => format!("table {}, chain {}: {rule}", table.name, chain.name),
            Way::Through if policy == Policy::Accept => continue,
            Way::Through => format!("table {}, chain {}: policy drop", table.name, chain.name),
        };
        return if walk.perhaps_passes {
            Fate::Perhaps(place)
        } else {
            Fate::Blocked(place)
        };
    }
    Fate::Passes
}

/// Where the way through a chain ends.
enum Way {
    Accepted,
    Dropped(String),
    /// At the end of the chain.
    Through,
}

/// What a rule does with the packet.
enum Hit {
    No,
    Surely(Verdict),
    Perhaps(Verdict),
}

struct Walk<'a> {
    table: &'a Table,
    packet: &'a Packet,
    /// A rule passed by would have accepted it under conditions that are not known.
    perhaps_passes: bool,
}

impl Walk<'_> {
    fn chain(&mut self, name: &str, depth: u8) -> Way {
        let table = self.table;
        for rule in table.rules.iter().filter(|rule| rule.chain == name) {
            let (verdict, sure) = match Match::of(table, self.packet, rule) {
                Hit::No => continue,
                Hit::Surely(verdict) => (verdict, true),
                Hit::Perhaps(verdict) => (verdict, false),
            };
            match self.verdict(verdict, sure, depth, rule) {
                Some(Way::Through) if sure => return Way::Through,
                Some(way) if sure => return way,
                _ => {}
            }
        }
        Way::Through
    }

    /// The way on; none: the next rule. Of what is not sure only acceptance is noted.
    fn verdict(&mut self, verdict: Verdict, sure: bool, depth: u8, rule: &Rule) -> Option<Way> {
        let called = match verdict {
            Verdict::Continue => return None,
            Verdict::Return => return Some(Way::Through),
            Verdict::Accept => {
                self.perhaps_passes |= !sure;
                return Some(Way::Accepted);
            }
            Verdict::Drop => return Some(Way::Dropped(rule.to_string())),
            Verdict::Jump(ref chain) | Verdict::Goto(ref chain) => {
                let depth = depth.checked_sub(1)?;
                self.chain(chain, depth)
            }
        };
        match called {
            Way::Through if matches!(verdict, Verdict::Jump(_)) => None,
            Way::Accepted if !sure => {
                self.perhaps_passes = true;
                None
            }
            way => Some(way),
        }
    }
}

/// The registers while one rule is matched; what is not in them is not known.
struct Match<'a> {
    table: &'a Table,
    packet: &'a Packet,
    registers: HashMap<u8, Vec<u8>>,
    sure: bool,
}

impl<'a> Match<'a> {
    fn of(table: &'a Table, packet: &'a Packet, rule: &Rule) -> Hit {
        let mut state = Self {
            table,
            packet,
            registers: HashMap::new(),
            sure: true,
        };
        for expr in &rule.exprs {
            match state.step(expr) {
                None => {}
                Some(Hit::Surely(verdict)) if !state.sure => return Hit::Perhaps(verdict),
                Some(hit) => return hit,
            }
        }
        Hit::No
    }

    /// One expression; an answer ends the rule.
    fn step(&mut self, expr: &Expr) -> Option<Hit> {
        match expr {
            Expr::Payload {
                dreg,
                base,
                offset,
                len,
            } => self.load(*dreg, payload(self.packet, *base, *offset, *len)),
            Expr::Meta { dreg, key } => self.load(*dreg, meta(self.packet, *key)),
            Expr::Ct { dreg, key, .. } => {
                let state = (*key == CtKey::State).then(|| NEW.to_ne_bytes().to_vec());
                self.load(*dreg, state);
            }
            Expr::Immediate { dreg, data } => self.load(*dreg, Some(data.clone())),
            Expr::Bitwise {
                sreg,
                dreg,
                mask,
                xor,
            } => {
                let value = self.registers.get(&sreg.0);
                let masked = value.map(|value| bitwise(value, mask, xor));
                self.load(*dreg, masked);
            }
            Expr::Cmp { sreg, op, data } => {
                let known = self.registers.get(&sreg.0);
                return self.condition(known.and_then(|value| compare(value, *op, data)));
            }
            Expr::Lookup {
                set, sreg, invert, ..
            } => {
                let found = self
                    .element(set, *sreg)
                    .map(|element| element.is_some() != *invert);
                return self.condition(found);
            }
            Expr::LookupVerdict { set, sreg } => return self.mapped(set, *sreg),
            Expr::Verdict(verdict) => return Some(Hit::Surely(verdict.clone())),
            Expr::Reject(_) => return Some(Hit::Surely(Verdict::Drop)),
            Expr::Other(name) if name.contains("log") => {}
            Expr::Other(_) => self.sure = false,
            Expr::Fib { dreg, .. } | Expr::NumGen { dreg, .. } => self.load(*dreg, None),
            _ => {}
        }
        None
    }

    fn load(&mut self, to: Reg, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.registers.insert(to.0, value),
            None => self.registers.remove(&to.0),
        };
    }

    fn condition(&mut self, holds: Option<bool>) -> Option<Hit> {
        match holds {
            Some(true) => None,
            Some(false) => Some(Hit::No),
            None => {
                self.sure = false;
                None
            }
        }
    }

    /// The element of a set that the register's value is in; none if that can't be told.
    fn element(&self, set: &str, from: Reg) -> Option<Option<&'a Element>> {
        let (value, elements) = (self.registers.get(&from.0)?, self.table.sets.get(set)?);
        let comparable = elements.iter().all(|element| element.key.len() == value.len());
        let holds = |element: &&Element| match &element.end {
            Some(end) => element.key <= *value && value <= end,
            None => element.key == *value,
        };
        comparable.then(|| elements.iter().find(holds))
    }

    fn mapped(&self, map: &str, from: Reg) -> Option<Hit> {
        match self.element(map, from) {
            Some(Some(Element {
                data: Some(Data::Verdict(verdict)),
                ..
            })) => Some(Hit::Surely(verdict.clone())),
            Some(None) => Some(Hit::No),
            _ => Some(Hit::Perhaps(Verdict::Accept)),
        }
    }
}

fn payload(packet: &Packet, base: PayloadBase, offset: u32, len: u32) -> Option<Vec<u8>> {
    match (base, offset, len) {
        (PayloadBase::Transport, 2, 2) => Some(packet.port.to_be_bytes().to_vec()),
        (PayloadBase::Network, 9, 1) => Some(vec![packet.protocol.number()]),
        _ => None,
    }
}

fn meta(packet: &Packet, key: MetaKey) -> Option<Vec<u8>> {
    let (name, index) = packet.arrival.clone().unzip();
    match key {
        MetaKey::L4Proto => Some(vec![packet.protocol.number()]),
        MetaKey::NfProto => Some(vec![IPV4]),
        MetaKey::Protocol => Some(ETHERTYPE_IPV4.to_be_bytes().to_vec()),
        MetaKey::Iif => index.flatten().map(|index| index.to_ne_bytes().to_vec()),
        MetaKey::IifName => name.map(|name| {
            let mut bytes = name.into_bytes();
            bytes.resize(NAME_SIZE, 0);
            bytes
        }),
        _ => None,
    }
}

fn bitwise(value: &[u8], mask: &[u8], xor: &[u8]) -> Vec<u8> {
    let pairs = value.iter().zip(mask).zip(xor);
    pairs.map(|((value, mask), xor)| (value & mask) ^ xor).collect()
}

/// Values compare as big-endian numbers; a shorter operand is compared with the beginning.
fn compare(value: &[u8], op: CmpOp, data: &[u8]) -> Option<bool> {
    let value = value.get(..data.len())?;
    Some(match op {
        CmpOp::Eq => value == data,
        CmpOp::Neq => value != data,
        CmpOp::Lt => value < data,
        CmpOp::Lte => value <= data,
        CmpOp::Gt => value > data,
        CmpOp::Gte => value >= data,
    })
}
