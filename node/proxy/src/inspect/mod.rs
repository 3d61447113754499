//! Why a packet goes where: the kernel's tables in words.

mod leads;
mod test;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use knode_nft::{Data, Error as NftError, Expr, Rule, Socket, Verdict};

use crate::model::{Endpoint, IpFamily, Protocol};
use crate::plan::{Frontend, Place};
use crate::table::{Actual, DROP, Decoder, ENDPOINT_MAPS, HAIRPIN, REJECT, TableConfig};
use leads::{Leads, chain, frontends, leads};
use test::{Packet, holds};

/// The tables as the kernel has them.
#[derive(Debug)]
pub struct Inspection {
    tables: Vec<Actual>,
    /// Which addresses are the host's own.
    is_local: fn(IpAddr) -> bool,
}

/// Where a packet ends up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// No Service is concerned; it goes where it is addressed to.
    Untouched,
    /// The sender is told at once.
    Refused,
    /// It is discarded.
    Dropped,
    /// One of these endpoints gets it.
    Endpoints(Vec<Endpoint>),
}

/// A packet's way through the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// What happens, one sentence a step.
    pub steps: Vec<String>,
    /// Where it ends.
    pub end: End,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        match &self.end {
            End::Untouched => writeln!(f, "=> it is left alone"),
            End::Refused => writeln!(f, "=> refused: the client is told at once"),
            End::Dropped => writeln!(f, "=> dropped without an answer"),
            End::Endpoints(endpoints) => {
                let list: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
                writeln!(f, "=> {}", list.join(" or "))
            }
        }
    }
}

/// Asks the host: an address that a socket can be bound to is its own.
fn can_bind(address: IpAddr) -> bool {
    std::net::UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

impl Inspection {
    /// Reads the tables in the calling thread's network namespace.
    ///
    /// # Errors
    /// No right to netlink, or no nf_tables in the kernel.
    pub fn read(config: &TableConfig) -> Result<Self, NftError> {
        let mut socket = Socket::open()?;
        let mut tables = Vec::new();
        for family in IpFamily::ALL {
            tables.extend(Actual::read(&mut socket, config, family)?);
        }
        Ok(Self {
            tables,
            is_local: can_bind,
        })
    }

    /// What becomes of packets to an address, whoever sends them: every port that is known for it, or only one.
    /// Node ports are found under any of the host's own addresses.
    pub fn explain(&self, address: IpAddr, port: Option<u16>) -> Vec<String> {
        let family = IpFamily::of(address);
        let Some(table) = self.table(family) else {
            return vec![no_table(family)];
        };
        let place = if (self.is_local)(address) {
            Place::Node
        } else {
            Place::Address(address)
        };
        let mut found: Vec<Frontend> = frontends(table)
            .filter(|frontend| frontend.place == place || frontend.place == Place::Address(address))
            .filter(|frontend| port.is_none_or(|port| port == frontend.port))
            .collect();
        found.sort_unstable();
        let mut lines = Vec::new();
        for frontend in found {
            let meaning = leads(table, &frontend).map(|leads| meaning(&leads));
            lines.push(format!(
                "{frontend}: {}",
                meaning.unwrap_or_else(|| "it leads nowhere".to_owned())
            ));
            let mut numbered: Vec<(u32, Endpoint)> = endpoints(table, &frontend).collect();
            numbered.sort_unstable();
            lines.extend(numbered.iter().map(|(index, endpoint)| {
                let kept = *index >= crate::plan::KEPT;
                let whose = if kept { " (clients outside)" } else { "" };
                format!("  {endpoint}{whose}")
            }));
        }
        if lines.is_empty() {
            lines.push(format!("{family}: no service has {address}"));
        }
        lines
    }

    /// The way of the first packet of a connection.
    pub fn trace(&self, source: IpAddr, to: SocketAddr, protocol: Protocol) -> Way {
        let family = IpFamily::of(to.ip());
        let mut way = Way {
            steps: Vec::new(),
            end: End::Untouched,
        };
        let Some(table) = self.table(family) else {
            way.steps.push(no_table(family));
            return way;
        };
        let packet = Packet {
            source,
            destination: to.ip(),
            is_local: self.is_local,
        };
        let mut frontend = Frontend {
            place: Place::Address(to.ip()),
            protocol,
            port: to.port(),
        };
        if let Some(leads) = leads(table, &frontend) {
            walk(table, &frontend, &leads, &packet, &mut way);
            return way;
        }
        way.steps.push(format!("no service has {frontend}"));
        let holding = chain(table, "services").iter();
        let mut holding = holding.filter(|rule| holds(&rule.exprs, &packet) == Some(true));
        frontend.place = Place::Node;
        match holding.find_map(last_verdict) {
            Some(Verdict::Goto(name)) if name == "node-ports" => match leads(table, &frontend) {
                None => way.steps.push(format!(
                    "{} is this host's, but no service has {frontend}",
                    to.ip()
                )),
                Some(leads) => walk(table, &frontend, &leads, &packet, &mut way),
            },
            Some(Verdict::Goto(name)) => {
                walk(table, &frontend, &Leads::Chain(name.clone()), &packet, &mut way);
            }
            _ => way
                .steps
                .push(format!("{} is no address for node ports", to.ip())),
        }
        way
    }

    fn table(&self, family: IpFamily) -> Option<&Actual> {
        self.tables.iter().find(|table| table.family == family)
    }
}

fn no_table(family: IpFamily) -> String {
    format!("{family}: the kernel has no table of the proxy")
}

fn endpoints(table: &Actual, frontend: &Frontend) -> impl Iterator<Item = (u32, Endpoint)> {
    let decoder = Decoder(table.family);
    let maps = ENDPOINT_MAPS.into_iter();
    let elements = maps.flat_map(|map| table.elements.get(map).into_iter().flatten());
    elements.filter_map(move |(key, data)| {
        let (known, index) = decoder.numbered(key)?;
        let Some(Data::Value(value)) = data else {
            return None;
        };
        (known == *frontend).then_some((index, decoder.endpoint(value)?))
    })
}

fn last_verdict(rule: &Rule) -> Option<&Verdict> {
    rule.exprs.iter().rev().find_map(|expr| match expr {
        Expr::Verdict(verdict) => Some(verdict),
        _ => None,
    })
}

/// What the chain that a frontend leads to does, by its name.
fn meaning(leads: &Leads) -> String {
    match leads {
        Leads::Chain(chain) if chain == REJECT => "it has no endpoint; clients are refused".to_owned(),
        Leads::Drop => {
            "it has endpoints, but none on this node, where its traffic is kept; dropped".to_owned()
        }
        Leads::Chain(chain) if chain.starts_with("pick-") => {
            let mut text = "spread over its endpoints".to_owned();
            if chain.contains("-local-") {
                text.push_str("; clients outside only get those on this node");
            }
            if chain.contains("-sticky") {
                text.push_str("; a client keeps its endpoint");
            }
            if chain.contains("-from-") {
                text.push_str("; only from its source ranges");
            }
            text
        }
        Leads::Chain(chain) => format!("unknown chain {chain}"),
    }
}

/// Follows the rules of the chain that a frontend leads to.
fn walk(table: &Actual, frontend: &Frontend, leads: &Leads, packet: &Packet, way: &mut Way) {
    way.steps
        .push(format!("a service has {frontend}: {}", meaning(leads)));
    let Leads::Chain(name) = leads else {
        way.end = End::Dropped;
        return;
    };
    let mut masqueraded = false;
    for rule in chain(table, name) {
        match holds(&rule.exprs, packet) {
            Some(false) => continue,
            Some(true) => {}
            None => {
                way.steps
                    .push("what comes depends on the interface that the packet came in by".to_owned());
                continue;
            }
        }
        if rule.exprs.iter().any(|expr| matches!(expr, Expr::MetaSet { .. })) {
            masqueraded = true;
            continue;
        }
        let draw = rule.exprs.iter().find_map(|expr| match expr {
            Expr::NumGen { modulus, offset, .. } => Some(*offset..offset + modulus),
            _ => None,
        });
        if let Some(range) = draw {
            let drawn = endpoints(table, frontend).filter(|(index, _)| range.contains(index));
            let mut drawn: Vec<Endpoint> = drawn.map(|(_, endpoint)| endpoint).collect();
            drawn.sort_unstable();
            say_source(table, packet, masqueraded, &drawn, way);
            way.end = End::Endpoints(drawn);
            return;
        }
        if rule.exprs.iter().any(|expr| matches!(expr, Expr::Reject(_))) {
            way.end = End::Refused;
            return;
        }
        match last_verdict(rule) {
            Some(Verdict::Drop) => way.end = End::Dropped,
            Some(Verdict::Goto(to)) if to == DROP => {
                way.steps
                    .push("this client is not let through, or there is no endpoint here for it".to_owned());
                way.end = End::Dropped;
            }
            _ => continue,
        }
        return;
    }
}

fn say_source(table: &Actual, packet: &Packet, masqueraded: bool, drawn: &[Endpoint], way: &mut Way) {
    way.steps.push(if masqueraded {
        "the endpoint sees an address of this node as the source".to_owned()
    } else {
        format!("the endpoint sees {} as the source", packet.source)
    });
    let decoder = Decoder(table.family);
    let hairpins = table.elements.get(HAIRPIN).into_iter().flatten();
    let mut hairpins = hairpins.filter_map(|(key, _)| decoder.address(key));
    let itself = drawn.iter().any(|endpoint| endpoint.ip == packet.source);
    if !masqueraded && itself && hairpins.any(|ip| ip == packet.source) {
        way.steps
            .push("where it reaches itself it sees an address of this node".to_owned());
    }
}
