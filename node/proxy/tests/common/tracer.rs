//! A model of what nf_tables does with the first packet of a connection, over a planned ruleset:
//! registers, lookups, verdicts and translations are carried out on a virtual packet.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use knode_nft::{
    CmpOp, CtDir, CtKey, Data, Expr, FibFlags, Hook, MetaKey, NatKind, PayloadBase, Reg, Rule, Ruleset,
    Verdict,
};
use knode_proxy::model::{IpFamily, Model, Protocol};
use knode_proxy::plan::Plan;
use knode_proxy::table::{TableConfig, elements, ruleset};

/// The first packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub saddr: IpAddr,
    pub daddr: IpAddr,
    pub protocol: Protocol,
    pub dport: u16,
}

impl Packet {
    pub fn tcp(saddr: &str, daddr: &str, dport: u16) -> Self {
        let ip = |text: &str| text.parse().expect("address");
        Self {
            saddr: ip(saddr),
            daddr: ip(daddr),
            protocol: Protocol::Tcp,
            dport,
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It goes there; `masqueraded` says whether under the node's address.
    To {
        address: IpAddr,
        port: u16,
        masqueraded: bool,
    },
    Rejected,
    Dropped,
}

/// A host with the table.
pub struct Tracer {
    ruleset: Ruleset,
    maps: HashMap<&'static str, HashMap<Vec<u8>, Option<Data>>>,
    pub clients: HashMap<String, HashMap<Vec<u8>, Vec<u8>>>,
    local: HashSet<IpAddr>,
    /// The number that the next draw gives, before the modulus.
    pub draw: u32,
    /// The interface that packets come in by; empty for the host's own.
    pub interface: &'static str,
}

struct Run {
    packet: Packet,
    original: Packet,
    registers: [u8; 64],
    mark: u32,
    translated: bool,
    masqueraded: bool,
}

enum Step {
    Next,
    Break,
    End(Verdict),
    Rejected,
}

impl Tracer {
    pub fn new(config: &TableConfig, model: &Model, local: &[&str]) -> Self {
        Self::of_family(IpFamily::V4, config, model, local)
    }

    pub fn of_family(family: IpFamily, config: &TableConfig, model: &Model, local: &[&str]) -> Self {
        let plan = Plan::build(model, family, HashMap::new());
        let mut maps: HashMap<&'static str, HashMap<Vec<u8>, Option<Data>>> = HashMap::new();
        for (set, element) in elements(&plan) {
            let old = maps.entry(set).or_default().insert(element.key, element.data);
            assert!(old.is_none(), "two elements of {set} have the same key");
        }
        let local = local.iter().map(|ip| ip.parse().expect("address")).collect();
        Self {
            ruleset: ruleset(config, &plan),
            maps,
            clients: HashMap::new(),
            local,
            draw: 0,
            interface: "",
        }
    }

    /// A packet that came in by an interface.
    pub fn receive(&mut self, packet: Packet) -> Outcome {
        self.trace(Hook::Prerouting, packet)
    }

    /// A packet of this host's own.
    pub fn send(&mut self, packet: Packet) -> Outcome {
        self.trace(Hook::Output, packet)
    }

    fn trace(&mut self, first: Hook, packet: Packet) -> Outcome {
        let mut run = Run {
            packet,
            original: packet,
            registers: [0; 64],
            mark: 0,
            translated: false,
            masqueraded: false,
        };
        if let Some(end) = self.hook(first, &mut run) {
            return end;
        }
        let delivered = first == Hook::Prerouting && self.local.contains(&run.packet.daddr);
        let last = if delivered { Hook::Input } else { Hook::Postrouting };
        if let Some(end) = self.hook(last, &mut run) {
            return end;
        }
        assert_eq!(
            run.mark & 0x4000 != 0,
            delivered && run.mark & 0x4000 != 0,
            "the mark must not leave the host"
        );
        Outcome::To {
            address: run.packet.daddr,
            port: run.packet.dport,
            masqueraded: run.masqueraded,
        }
    }

    fn hook(&mut self, hook: Hook, run: &mut Run) -> Option<Outcome> {
        let bases: Vec<String> = self
            .ruleset
            .chains
            .iter()
            .filter(|chain| chain.hook.as_ref().is_some_and(|spec| spec.hook == hook))
            .map(|chain| chain.name.clone())
            .collect();
        for base in bases {
            match self.chain(&base, run) {
                Step::Rejected => return Some(Outcome::Rejected),
                Step::End(Verdict::Drop) => return Some(Outcome::Dropped),
                _ => {}
            }
        }
        None
    }

    /// Runs a chain; ends with Accept, Drop or Rejected, or with Next at its end.
    fn chain(&mut self, name: &str, run: &mut Run) -> Step {
        assert!(
            self.ruleset.chains.iter().any(|chain| chain.name == name),
            "no chain {name}"
        );
        let rules: Vec<Rule> = self
            .ruleset
            .rules
            .iter()
            .filter(|rule| rule.chain == name)
            .cloned()
            .collect();
        for rule in rules {
            match self.rule(&rule, run) {
                Step::Next | Step::Break => {}
                Step::End(Verdict::Return) => return Step::Next,
                Step::End(Verdict::Jump(chain)) => match self.chain(&chain, run) {
                    Step::Next => {}
                    end => return end,
                },
                Step::End(Verdict::Goto(chain)) => return self.chain(&chain, run),
                end => return end,
            }
        }
        Step::Next
    }

    fn rule(&mut self, rule: &Rule, run: &mut Run) -> Step {
        for expr in &rule.exprs {
            match self.expr(expr, run) {
                Step::Next => {}
                end => return end,
            }
        }
        Step::Next
    }

    fn expr(&mut self, expr: &Expr, run: &mut Run) -> Step {
        match expr {
            Expr::Payload {
                dreg,
                base,
                offset,
                len,
            } => run.put(*dreg, &payload(&run.packet, *base, *offset, *len)),
            Expr::Meta {
                dreg,
                key: MetaKey::L4Proto,
            } => run.put(*dreg, &[run.packet.protocol.number()]),
            Expr::Meta {
                dreg,
                key: MetaKey::IifName,
            } => {
                let mut name = self.interface.as_bytes().to_vec();
                name.resize(16, 0);
                run.put(*dreg, &name);
            }
            Expr::Meta {
                dreg,
                key: MetaKey::Mark,
            } => run.put(*dreg, &run.mark.to_ne_bytes()),
            Expr::MetaSet {
                key: MetaKey::Mark,
                sreg,
            } => run.mark = u32::from_ne_bytes(run.get(*sreg)),
            Expr::Ct {
                dreg,
                key: CtKey::Status,
                ..
            } => {
                let status: u32 = if run.translated { 0x20 } else { 0 };
                run.put(*dreg, &status.to_ne_bytes());
            }
            Expr::Ct {
                dreg,
                key: CtKey::DstIp | CtKey::DstIp6,
                dir: Some(CtDir::Original),
            } => {
                run.put(*dreg, &octets(run.original.daddr));
            }
            Expr::Ct {
                dreg,
                key: CtKey::ProtoDst,
                dir: Some(CtDir::Original),
            } => {
                run.put(*dreg, &run.original.dport.to_be_bytes());
            }
            Expr::Fib { dreg, flags, .. } => {
                let address = if *flags == FibFlags::SADDR {
                    run.packet.saddr
                } else {
                    run.packet.daddr
                };
                let local = self.local.contains(&address) || address.is_loopback();
                run.put(*dreg, &if local { 2u32 } else { 1 }.to_ne_bytes());
            }
            Expr::Immediate { dreg, data } => run.put(*dreg, data),
            Expr::NumGen {
                dreg,
                modulus,
                offset,
                ..
            } => {
                run.put(*dreg, &(self.draw % modulus + offset).to_ne_bytes());
            }
            Expr::Bitwise {
                sreg,
                dreg,
                mask,
                xor,
            } => {
                let value: Vec<u8> = run
                    .bytes(*sreg, mask.len())
                    .iter()
                    .zip(mask)
                    .zip(xor)
                    .map(|((v, m), x)| (v & m) ^ x)
                    .collect();
                run.put(*dreg, &value);
            }
            Expr::Cmp { sreg, op, data } => {
                let equal = run.bytes(*sreg, data.len()) == data;
                assert!(matches!(op, CmpOp::Eq | CmpOp::Neq), "{op:?} is not modelled");
                if equal != (*op == CmpOp::Eq) {
                    return Step::Break;
                }
            }
            other => return self.statement(other, run),
        }
        Step::Next
    }

    fn statement(&mut self, expr: &Expr, run: &mut Run) -> Step {
        match expr {
            Expr::Lookup {
                set,
                sreg,
                dreg,
                invert: false,
            } => return self.lookup(set, *sreg, *dreg, run),
            Expr::LookupVerdict { set, sreg } => {
                let key = run.bytes(*sreg, self.key_len(set)).to_vec();
                match self.maps.get(set.as_str()).and_then(|map| map.get(&key)) {
                    Some(Some(Data::Verdict(verdict))) => return Step::End(verdict.clone()),
                    Some(other) => panic!("{set} holds {other:?}"),
                    None => return Step::Break,
                }
            }
            Expr::Dynset { set, key, data, .. } => {
                let address = octets(run.packet.daddr).len();
                let client = run.bytes(*key, 2 * address + 8).to_vec();
                let endpoint = run.bytes(data.expect("a map"), address + 4).to_vec();
                let clients = self.clients.entry(set.clone()).or_default();
                clients.insert(client, endpoint);
            }
            Expr::Verdict(verdict) => return Step::End(verdict.clone()),
            Expr::Nat {
                kind: NatKind::Dnat,
                addr: Some(addr),
                port: Some(port),
                ..
            } => {
                run.packet.daddr = match run.packet.daddr {
                    IpAddr::V4(_) => run.get(*addr).into(),
                    IpAddr::V6(_) => <[u8; 16]>::try_from(run.bytes(*addr, 16))
                        .expect("16 bytes")
                        .into(),
                };
                let [high, low, ..] = run.get(*port);
                run.packet.dport = u16::from_be_bytes([high, low]);
                run.translated = true;
                return Step::End(Verdict::Accept);
            }
            Expr::Masquerade(_) => {
                run.masqueraded = true;
                return Step::End(Verdict::Accept);
            }
            Expr::Reject(_) => return Step::Rejected,
            Expr::Counter => {}
            other => panic!("{other:?} is not modelled"),
        }
        Step::Next
    }

    fn lookup(&self, set: &str, sreg: Reg, dreg: Option<Reg>, run: &mut Run) -> Step {
        let key = run.bytes(sreg, self.key_len(set)).to_vec();
        let found = match set {
            "sticky" | "sticky-here" => self
                .clients
                .get(set)
                .and_then(|clients| clients.get(&key))
                .map(|value| Some(Data::Value(value.clone()))),
            _ => self.maps.get(set).and_then(|map| map.get(&key)).cloned(),
        };
        match (found, dreg) {
            (Some(Some(Data::Value(value))), Some(dreg)) => run.put(dreg, &value),
            (Some(None), None) => {}
            (None, _) => return Step::Break,
            (found, _) => panic!("{set} holds {found:?}"),
        }
        Step::Next
    }

    fn key_len(&self, set: &str) -> usize {
        let set = self.ruleset.sets.iter().find(|known| known.name == set);
        set.expect("a rule names a set that is not there").key.len()
    }
}

impl Run {
    /// Loads clear the rest of the last register, as the kernel does.
    fn put(&mut self, reg: Reg, value: &[u8]) {
        let at = usize::from(reg.0) * 4;
        self.registers[at..at + value.len().next_multiple_of(4)].fill(0);
        self.registers[at..at + value.len()].copy_from_slice(value);
    }

    fn bytes(&self, reg: Reg, len: usize) -> &[u8] {
        &self.registers[usize::from(reg.0) * 4..][..len]
    }

    fn get(&self, reg: Reg) -> [u8; 4] {
        self.bytes(reg, 4).try_into().expect("four bytes")
    }
}

fn payload(packet: &Packet, base: PayloadBase, offset: u32, len: u32) -> Vec<u8> {
    match (base, offset, len) {
        (PayloadBase::Network, 12, 4) | (PayloadBase::Network, 8, 16) => octets(packet.saddr),
        (PayloadBase::Network, 16, 4) | (PayloadBase::Network, 24, 16) => octets(packet.daddr),
        (PayloadBase::Transport, 2, 2) => packet.dport.to_be_bytes().to_vec(),
        other => panic!("payload {other:?} is not modelled"),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
