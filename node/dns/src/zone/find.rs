use std::net::IpAddr;
use std::num::NonZeroU16;

use super::path::{Filter, Path};
use crate::model::{Addresses, Endpoint, Entry, Model, Port, Service, Slice};

/// What a name within the zone leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<'m> {
    /// No such name.
    Nothing,
    /// The name is there and has none of these records.
    Empty,
    /// Addresses.
    Targets(Vec<Target>),
    /// Another name.
    Alias(&'m str),
}

/// An address behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub ip: IpAddr,
    /// Where it is a Service's, or a slice names a number.
    pub port: Option<NonZeroU16>,
    /// The label below the Service, if it is an endpoint's.
    pub label: Option<String>,
}

/// Looks up what a name within the zone stands for (CoreDNS: `findServices`, `findPods`).
pub(super) fn find<'m>(model: &'m Model, path: Path<'_>) -> Found<'m> {
    match path {
        Path::Exists | Path::Version | Path::NameServer => Found::Empty,
        Path::Namespace(name) if model.has_namespace(name) => Found::Empty,
        Path::Namespace(_) | Path::Nothing => Found::Nothing,
        Path::Pod { namespace, name } => find_pod(model, namespace, name),
        Path::Service {
            namespace,
            name,
            filter,
        } => find_service(model, namespace, name, filter),
    }
}

/// Not verified: any address in a namespace that is there (kubeadm's `pods insecure`).
fn find_pod<'m>(model: &'m Model, namespace: &str, name: &str) -> Found<'m> {
    let has_four_numbers = name.bytes().filter(|b| *b == b'-').count() == 3 && !name.contains("--");
    let text = name.replace('-', if has_four_numbers { "." } else { ":" });
    let ip: Option<IpAddr> = text.parse().ok();
    match ip.filter(|_| model.has_namespace(namespace)) {
        Some(ip) => Found::Targets(vec![Target {
            ip,
            port: None,
            label: None,
        }]),
        None => Found::Nothing,
    }
}

fn find_service<'m>(model: &'m Model, namespace: &str, name: &str, filter: Filter<'_>) -> Found<'m> {
    if !model.has_namespace(namespace) {
        return Found::Nothing;
    }
    let Some(entry) = model.entry(&format!("{namespace}/{name}")) else {
        return Found::Nothing;
    };
    let Some(service) = entry.service() else {
        return Found::Nothing;
    };
    match (&service.addresses, filter) {
        (Addresses::External(name), Filter::None) if name.parse::<IpAddr>().is_err() => Found::Alias(name),
        (Addresses::External(_), _) => Found::Nothing,
        (Addresses::Headless, _) | (_, Filter::Endpoint(_)) => some(endpoints(entry, filter)),
        (Addresses::Cluster(ips), _) => some(own(service, ips, filter)),
    }
}

fn some<'m>(targets: Vec<Target>) -> Found<'m> {
    if targets.is_empty() {
        return Found::Nothing;
    }
    Found::Targets(targets)
}

fn own(service: &Service, ips: &[IpAddr], filter: Filter<'_>) -> Vec<Target> {
    let at = |port: Option<NonZeroU16>| {
        ips.iter().map(move |ip| Target {
            ip: *ip,
            port,
            label: None,
        })
    };
    numbers(&service.ports, filter).into_iter().flat_map(at).collect()
}

fn endpoints(entry: &Entry, filter: Filter<'_>) -> Vec<Target> {
    let mut found = Vec::new();
    for slice in entry.slices() {
        let ports = numbers(&slice.ports, filter);
        for endpoint in wanted(slice, filter) {
            found.extend(ports.iter().map(|port| Target {
                ip: endpoint.ip,
                port: *port,
                label: Some(endpoint.label()),
            }));
        }
    }
    found
}

fn wanted<'a>(slice: &'a Slice, filter: Filter<'a>) -> impl Iterator<Item = &'a Endpoint> {
    slice.endpoints.iter().filter(move |endpoint| match filter {
        Filter::Endpoint(label) => endpoint.is_called(label),
        Filter::None | Filter::Port { .. } => true,
    })
}

/// The numbers of the ports that are meant; one that is unknown where there are no ports at all.
fn numbers(ports: &[Port], filter: Filter<'_>) -> Vec<Option<NonZeroU16>> {
    let Filter::Port { port, protocol } = filter else {
        if ports.is_empty() {
            return vec![None];
        }
        return ports.iter().map(|port| port.number).collect();
    };
    let meant = ports
        .iter()
        .filter(|p| port.eq_ignore_ascii_case(&p.name) && protocol == p.protocol.label());
    meant.map(|port| port.number).collect()
}
