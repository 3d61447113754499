//! Answers about the cluster's own names: a function of the model and the question.

mod find;
mod path;
mod records;
mod reverse;

use std::net::IpAddr;

use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::model::Model;
use find::{Found, find};
use path::{Path, Relative};
use records::Shuffle;

/// The version of the specification that is followed.
const VERSION: &str = "1.1.0";
/// Seconds for which the version is good.
const VERSION_TTL: u32 = 28800;
/// Names that lead to names are followed so far.
const MAX_CHAIN: usize = 10;

/// The cluster's zone.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The cluster's domain (`cluster.local.`).
    pub origin: Name,
    /// Seconds for which answers are good (kubeadm's Corefile: 30, CoreDNS without one: 5).
    pub ttl: u32,
    /// Addresses at which this server is reached, for the zone's NS records.
    pub own_ips: Vec<IpAddr>,
}

/// What there is to say about a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// These records.
    Records {
        /// Of the name itself.
        answers: Vec<Record>,
        /// Addresses of the names in them.
        additionals: Vec<Record>,
    },
    /// These records, whose last one leads out of the zone: others know how it goes on.
    Alias {
        /// CNAME records.
        answers: Vec<Record>,
        /// Where they lead.
        target: Name,
    },
    /// The name is there, without records of this type; the zone's SOA record tells for how long.
    NoData,
    /// There is no such name.
    NoName,
    /// Zone transfers are not for everyone.
    Refused,
    /// Not the cluster's business: others are to be asked.
    Elsewhere,
}

impl Zone {
    /// What to answer. `random` decides about the order of addresses.
    pub fn answer(&self, model: &Model, name: &Name, kind: RecordType, random: u64) -> Answer {
        if let Some(ip) = reverse::address(name) {
            return match kind {
                RecordType::PTR => self.reverse(model, name, ip),
                _ => Answer::Elsewhere,
            };
        }
        let Some(relative) = Relative::of(name, &self.origin) else {
            return Answer::Elsewhere;
        };
        match (relative.path(), kind) {
            (_, RecordType::AXFR | RecordType::IXFR) => Answer::Refused,
            (Path::Exists, RecordType::SOA) if *name == self.origin => records(vec![self.soa(model)]),
            (Path::Exists, RecordType::NS) if *name == self.origin => self.name_servers(model, name),
            (Path::Version, RecordType::TXT) => records(vec![version(name)]),
            (Path::NameServer, RecordType::A | RecordType::AAAA) => {
                self.addresses(name, kind, self.own_ips.iter().copied(), random)
            }
            (path, _) => self.of_objects(model, name, kind, path, random),
        }
    }

    /// Whether a name lies in the zone.
    pub fn contains(&self, name: &Name) -> bool {
        self.origin.zone_of(name)
    }

    /// The zone's SOA record (CoreDNS' numbers).
    pub fn soa(&self, model: &Model) -> Record {
        let below = |label: &str| prepend(&[label], &self.origin);
        let data = SOA::new(
            prepend(&["ns", "dns"], &self.origin),
            below("hostmaster"),
            model.serial(),
            7200,
            1800,
            86400,
            self.ttl,
        );
        Record::from_rdata(self.origin.clone(), self.ttl.min(300), RData::SOA(data))
    }

    fn of_objects(
        &self,
        model: &Model,
        name: &Name,
        kind: RecordType,
        path: Path<'_>,
        random: u64,
    ) -> Answer {
        match find(model, path) {
            Found::Nothing => Answer::NoName,
            Found::Empty => Answer::NoData,
            Found::Alias(target) => self.alias(model, name, kind, target, random),
            Found::Targets(targets) => match kind {
                RecordType::A | RecordType::AAAA => {
                    self.addresses(name, kind, targets.iter().map(|target| target.ip), random)
                }
                RecordType::SRV => self.services(name, path, targets, random),
                _ => Answer::NoData,
            },
        }
    }

    /// Records of the type's family, each address once.
    fn addresses(
        &self,
        name: &Name,
        kind: RecordType,
        ips: impl Iterator<Item = IpAddr>,
        random: u64,
    ) -> Answer {
        let mut ips: Vec<IpAddr> = ips.filter(|ip| ip.is_ipv4() == (kind == RecordType::A)).collect();
        ips.sort_unstable();
        ips.dedup();
        Shuffle::new(random).shuffle(&mut ips);
        if ips.is_empty() {
            return Answer::NoData;
        }
        records(
            ips.into_iter()
                .map(|ip| records::address(name, self.ttl, ip))
                .collect(),
        )
    }

    /// A Service that stands for another name. Names within the zone are followed here.
    fn alias(&self, model: &Model, name: &Name, kind: RecordType, target: &str, random: u64) -> Answer {
        let mut answers = Vec::new();
        let (mut name, mut target) = (name.clone(), target);
        loop {
            let Some(next) = fqdn(target).filter(|next| *next != name) else {
                return Answer::NoData;
            };
            let looped = answers.iter().any(|known: &Record| known.name == next);
            if looped || answers.len() >= MAX_CHAIN {
                return Answer::NoData;
            }
            let cname = RData::CNAME(CNAME(next.clone()));
            answers.push(Record::from_rdata(name, self.ttl, cname));
            if kind == RecordType::CNAME {
                return records(answers);
            }
            // As CoreDNS, SRV records stop at the cluster's border.
            if kind == RecordType::SRV {
                return Answer::NoData;
            }
            let Some(relative) = Relative::of(&next, &self.origin) else {
                return Answer::Alias {
                    answers,
                    target: next,
                };
            };
            match find(model, relative.path()) {
                Found::Alias(further) => (name, target) = (next, further),
                Found::Targets(targets) => {
                    let ips = targets.iter().map(|target| target.ip);
                    return match self.addresses(&next, kind, ips, random) {
                        Answer::Records {
                            answers: addresses, ..
                        } => {
                            answers.extend(addresses);
                            records(answers)
                        }
                        _ => Answer::NoData,
                    };
                }
                Found::Nothing | Found::Empty => return Answer::NoData,
            }
        }
    }

    fn services(&self, name: &Name, path: Path<'_>, targets: Vec<find::Target>, random: u64) -> Answer {
        let Path::Service {
            namespace,
            name: service,
            ..
        } = path
        else {
            return Answer::NoData;
        };
        let service = prepend(&[service, namespace, "svc"], &self.origin);
        let (mut answers, additionals) = records::services(name, &service, self.ttl, targets);
        Shuffle::new(random).shuffle(&mut answers);
        if answers.is_empty() {
            return Answer::NoData;
        }
        Answer::Records { answers, additionals }
    }

    /// The Services that this server is an endpoint of, or its own addresses.
    fn name_servers(&self, model: &Model, name: &Name) -> Answer {
        let own = self.own_ips.iter().flat_map(|ip| model.endpoints_at(*ip));
        let mut names: Vec<&crate::model::Name> = own.collect();
        names.sort_unstable();
        names.dedup();
        let mut servers: Vec<(Name, Vec<IpAddr>)> = Vec::new();
        for service in names {
            let ips = model.entry(service).and_then(|entry| entry.service());
            let ips = ips.map(crate::model::Service::ips).unwrap_or_default();
            if !ips.is_empty() {
                servers.push((self.name_of(service), ips.to_vec()));
            }
        }
        if servers.is_empty() {
            servers.push((prepend(&["ns", "dns"], &self.origin), self.own_ips.clone()));
        }
        let ns = |(server, _): &(Name, _)| {
            Record::from_rdata(name.clone(), self.ttl, RData::NS(NS(server.clone())))
        };
        let addresses = servers
            .iter()
            .flat_map(|(server, ips)| ips.iter().map(|ip| records::address(server, self.ttl, *ip)));
        Answer::Records {
            answers: servers.iter().map(ns).collect(),
            additionals: addresses.collect(),
        }
    }

    fn reverse(&self, model: &Model, name: &Name, ip: IpAddr) -> Answer {
        let services: Vec<Name> = match model.services_at(ip) {
            [service, ..] => vec![self.name_of(service)],
            [] => model
                .endpoints_at(ip)
                .iter()
                .flat_map(|name| self.endpoints_of(model, name, ip))
                .collect(),
        };
        if services.is_empty() {
            return Answer::Elsewhere;
        }
        let ptr = |target: Name| Record::from_rdata(name.clone(), self.ttl, RData::PTR(PTR(target)));
        records(services.into_iter().map(ptr).collect())
    }

    /// The names of the endpoints of a Service at an address.
    fn endpoints_of(&self, model: &Model, service: &str, ip: IpAddr) -> Vec<Name> {
        let slices = model.entry(service).into_iter().flat_map(|entry| entry.slices());
        let endpoints = slices.flat_map(|slice| slice.endpoints.iter());
        let mut labels: Vec<String> = endpoints
            .filter(|endpoint| endpoint.ip == ip)
            .map(crate::model::Endpoint::label)
            .collect();
        labels.sort_unstable();
        labels.dedup();
        let service = self.name_of(service);
        labels.iter().map(|label| prepend(&[label], &service)).collect()
    }

    /// The name of the Service `namespace/name`.
    fn name_of(&self, service: &str) -> Name {
        let (namespace, name) = service.split_once('/').unwrap_or(("", service));
        prepend(&[name, namespace, "svc"], &self.origin)
    }
}

fn records(answers: Vec<Record>) -> Answer {
    Answer::Records {
        answers,
        additionals: Vec::new(),
    }
}

fn version(name: &Name) -> Record {
    let data = TXT::new(vec![VERSION.to_owned()]);
    Record::from_rdata(name.clone(), VERSION_TTL, RData::TXT(data))
}

/// A name below another. What is too long for a name is left out: no object has such a one.
fn prepend(labels: &[&str], name: &Name) -> Name {
    let start = labels
        .iter()
        .try_fold(Name::new(), |start, label| start.append_label(label.as_bytes()));
    let joined = start.and_then(|start| start.append_domain(name));
    joined.unwrap_or_else(|_| name.clone())
}

/// A name that an object gives; it counts as complete.
fn fqdn(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}
