//! A model of what nf_tables does with a packet that is forwarded, over a planned ruleset: registers, lookups and
//! verdicts are carried out on a virtual packet.

use std::collections::HashMap;
use std::net::IpAddr;

use knode_nft::{CmpOp, CtKey, Data, Element, Expr, Hook, MetaKey, PayloadBase, Reg, Rule, Ruleset, Verdict};
use knode_policy::model::{IpFamily, Protocol};
use knode_policy::plan::Planner;
use knode_policy::table::{elements, ruleset};

/// How the packet stands to a connection: bits of the kernel's.
pub const NEW: u32 = 8;
pub const ESTABLISHED: u32 = 2;
pub const RELATED: u32 = 4;

/// A packet.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub saddr: IpAddr,
    pub daddr: IpAddr,
    /// `IPPROTO_*`.
    pub protocol: u8,
    pub dport: u16,
    pub state: u32,
}

impl Packet {
    /// The first packet of a connection.
    pub fn first(saddr: &str, daddr: &str, protocol: Protocol, dport: u16) -> Self {
        Self {
            saddr: saddr.parse().expect("address"),
            daddr: daddr.parse().expect("address"),
            protocol: protocol.number(),
            dport,
            state: NEW,
        }
    }
}

/// A node with the table of a family.
pub struct Tracer {
    ruleset: Ruleset,
    elements: HashMap<String, Vec<Element>>,
}

enum Step {
    Next,
    Break,
    End(Verdict),
}

impl Tracer {
    pub fn new(plan: &Planner, family: IpFamily) -> Self {
        Self {
            ruleset: ruleset(plan, family),
            elements: elements(plan, family),
        }
    }

    /// Whether a packet that is forwarded passes.
    pub fn passes(&self, packet: &Packet) -> bool {
        let hook =
            |hook| move |chain: &&knode_nft::Chain| chain.hook.as_ref().is_some_and(|own| own.hook == hook);
        let bases = self.ruleset.chains.iter().filter(hook(Hook::Forward));
        let verdicts: Vec<Verdict> = bases.map(|base| self.run(&base.name, packet)).collect();
        assert_eq!(verdicts.len(), 2, "one chain a direction");
        verdicts.iter().all(|verdict| *verdict == Verdict::Accept)
    }

    fn run(&self, base: &str, packet: &Packet) -> Verdict {
        let mut registers = [0; 64];
        match self.chain(base, packet, &mut registers, 0) {
            Step::End(verdict) => verdict,
            _ => Verdict::Accept,
        }
    }

    fn chain(&self, name: &str, packet: &Packet, registers: &mut [u8; 64], depth: usize) -> Step {
        assert!(depth < 16, "the kernel's stack of chains is 16 deep");
        assert!(
            self.ruleset.chains.iter().any(|chain| chain.name == name),
            "no chain {name}"
        );
        for rule in self.ruleset.rules.iter().filter(|rule| rule.chain == name) {
            match self.rule(rule, packet, registers) {
                Step::Next | Step::Break => {}
                Step::End(Verdict::Jump(chain)) => match self.chain(&chain, packet, registers, depth + 1) {
                    Step::Next => {}
                    end => return end,
                },
                Step::End(Verdict::Goto(chain)) => return self.chain(&chain, packet, registers, depth),
                end => return end,
            }
        }
        Step::Next
    }

    fn rule(&self, rule: &Rule, packet: &Packet, registers: &mut [u8; 64]) -> Step {
        for expr in &rule.exprs {
            match self.expr(expr, packet, registers) {
                Step::Next => {}
                end => return end,
            }
        }
        Step::Next
    }

    fn expr(&self, expr: &Expr, packet: &Packet, registers: &mut [u8; 64]) -> Step {
        match expr {
            Expr::Payload {
                dreg,
                base,
                offset,
                len,
            } => put(registers, *dreg, &payload(packet, *base, *offset, *len)),
            Expr::Meta {
                dreg,
                key: MetaKey::L4Proto,
            } => put(registers, *dreg, &[packet.protocol]),
            Expr::Ct {
                dreg,
                key: CtKey::State,
                ..
            } => put(registers, *dreg, &packet.state.to_ne_bytes()),
            Expr::Bitwise {
                sreg,
                dreg,
                mask,
                xor,
            } => {
                let value = bytes(registers, *sreg, mask.len()).iter().zip(mask).zip(xor);
                let value: Vec<u8> = value.map(|((v, m), x)| (v & m) ^ x).collect();
                put(registers, *dreg, &value);
            }
            Expr::Cmp { sreg, op, data } => {
                let value = bytes(registers, *sreg, data.len());
                let holds = match op {
                    CmpOp::Eq => value == data,
                    CmpOp::Neq => value != data,
                    CmpOp::Gte => value >= data.as_slice(),
                    CmpOp::Lte => value <= data.as_slice(),
                    other => panic!("{other:?} is not modelled"),
                };
                if !holds {
                    return Step::Break;
                }
            }
            Expr::Lookup {
                set,
                sreg,
                dreg: None,
                invert: false,
            } => {
                if self.find(set, *sreg, registers).is_none() {
                    return Step::Break;
                }
            }
            Expr::LookupVerdict { set, sreg } => match self.find(set, *sreg, registers) {
                Some(Element {
                    data: Some(Data::Verdict(verdict)),
                    ..
                }) => return Step::End(verdict.clone()),
                Some(other) => panic!("{set} holds {other:?}"),
                None => return Step::Break,
            },
            Expr::Verdict(verdict) => return Step::End(verdict.clone()),
            Expr::Counter => {}
            other => panic!("{other:?} is not modelled"),
        }
        Step::Next
    }

    fn find(&self, set: &str, sreg: Reg, registers: &[u8; 64]) -> Option<&Element> {
        let known = self.ruleset.sets.iter().find(|known| known.name == set);
        let width = known.expect("a rule names a set that is not there").key.len();
        let key = bytes(registers, sreg, width);
        let in_range = |element: &&Element| match &element.end {
            None => element.key == key,
            Some(end) => element.key.as_slice() <= key && key <= end.as_slice(),
        };
        self.elements[set].iter().find(in_range)
    }
}

/// Loads clear the rest of the last register, as the kernel does.
fn put(registers: &mut [u8; 64], reg: Reg, value: &[u8]) {
    let at = usize::from(reg.0) * 4;
    registers[at..at + value.len().next_multiple_of(4)].fill(0);
    registers[at..at + value.len()].copy_from_slice(value);
}

fn bytes(registers: &[u8; 64], reg: Reg, len: usize) -> &[u8] {
    &registers[usize::from(reg.0) * 4..][..len]
}

fn payload(packet: &Packet, base: PayloadBase, offset: u32, len: u32) -> Vec<u8> {
    match (base, offset, len) {
        (PayloadBase::Network, 12, 4) | (PayloadBase::Network, 8, 16) => octets(packet.saddr),
        (PayloadBase::Network, 16, 4) | (PayloadBase::Network, 24, 16) => octets(packet.daddr),
        (PayloadBase::Transport, 2, 2) => packet.dport.to_be_bytes().to_vec(),
        // Of ICMPv6 the type; here it is where TCP has the source port.
        (PayloadBase::Transport, 0, 1) => vec![packet.dport as u8],
        other => panic!("payload {other:?} is not modelled"),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
