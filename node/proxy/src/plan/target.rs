use std::collections::BTreeMap;
use std::net::IpAddr;

use super::assign::keep_order;
use super::{Frontend, Kind, Place, Shape};
use crate::model::{Endpoint, Entry, Model, Service, ServicePort, State};

/// What becomes of packets to a frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// They are spread over endpoints.
    Endpoints {
        /// How they come.
        kind: Kind,
        /// Seconds for which a client keeps its endpoint.
        affinity: Option<u32>,
        /// Where they go; empty only for [`Kind::NodeFromOutside`], which then drops.
        endpoints: Box<[Endpoint]>,
    },
    /// No endpoint: the client is told at once.
    Reject,
    /// Endpoints, but none that this node may use.
    Drop,
}

impl Target {
    /// Where packets go.
    pub fn endpoints(&self) -> &[Endpoint] {
        match self {
            Self::Endpoints { endpoints, .. } => endpoints,
            Self::Reject | Self::Drop => &[],
        }
    }

    /// The chain that does it, if it takes one of its own.
    pub fn shape(&self) -> Option<Shape> {
        match self {
            Self::Endpoints {
                kind,
                affinity,
                endpoints,
            } => {
                let sticky = affinity.is_some() && !endpoints.is_empty();
                Some(Shape {
                    kind: *kind,
                    endpoints: endpoints.len() as u32,
                    sticky,
                })
            }
            Self::Reject | Self::Drop => None,
        }
    }

    /// Seconds for which a client keeps its endpoint, if it gets one and is to keep it.
    pub fn affinity(&self) -> Option<u32> {
        match self {
            Self::Endpoints {
                affinity, endpoints, ..
            } => affinity.filter(|_| !endpoints.is_empty()),
            Self::Reject | Self::Drop => None,
        }
    }

    pub(super) fn keep_order(&mut self, before: &[Endpoint]) {
        if let Self::Endpoints { endpoints, .. } = self {
            keep_order(before, endpoints);
        }
    }
}

/// The endpoints that may get connections of one port.
struct Usable {
    all: Vec<Endpoint>,
    local: Vec<Endpoint>,
}

/// The frontends of a Service with their targets.
pub fn targets(model: &Model, service: &str) -> BTreeMap<Frontend, Target> {
    let mut targets = BTreeMap::new();
    let Some(entry) = model.get(service) else {
        return targets;
    };
    let Some(service) = &entry.service else {
        return targets;
    };
    for port in &service.ports {
        for family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
            port_targets(entry, service, port, family, &mut targets);
        }
    }
    targets
}

fn port_targets(
    entry: &Entry,
    service: &Service,
    port: &ServicePort,
    family: fn(&IpAddr) -> bool,
    targets: &mut BTreeMap<Frontend, Target>,
) {
    if !service.cluster_ips.iter().any(family) {
        return;
    }
    let usable = usable(entry, port, family);
    let mut add = |place, kind, local| {
        let frontend_port = if matches!(place, Place::Address(_)) {
            port.port
        } else {
            port.node_port
        };
        let frontend = Frontend {
            place,
            protocol: port.protocol,
            port: frontend_port,
        };
        targets.insert(frontend, usable.target(kind, service.affinity, local));
    };
    for address in service.cluster_ips.iter().copied().filter(family) {
        add(Place::Address(address), Kind::Cluster, service.internal_local);
    }
    for address in service.external_ips.iter().copied().filter(family) {
        let kind = if service.external_local {
            Kind::ExternalLocal
        } else {
            Kind::External
        };
        add(Place::Address(address), kind, service.external_local);
    }
    // The maps of IPv6 would have node places of their own; only IPv4 is programmed.
    if port.node_port == 0 || !family(&Place::Node.address()) {
        return;
    }
    if service.external_local {
        add(Place::Node, Kind::NodeInside, false);
        if !usable.all.is_empty() {
            add(Place::NodeFromOutside, Kind::NodeFromOutside, true);
        }
    } else {
        add(Place::Node, Kind::Node, false);
    }
}

impl Usable {
    fn target(&self, kind: Kind, affinity: Option<u32>, local: bool) -> Target {
        let endpoints = if local { &self.local } else { &self.all };
        match (endpoints.is_empty(), self.all.is_empty(), kind) {
            (true, true, _) => Target::Reject,
            (true, false, Kind::NodeFromOutside) | (false, _, _) => Target::Endpoints {
                kind,
                affinity,
                endpoints: endpoints.as_slice().into(),
            },
            (true, false, _) => Target::Drop,
        }
    }
}

/// Ready endpoints, or, where there are none, those that are ending but still serve.
fn usable(entry: &Entry, port: &ServicePort, family: fn(&IpAddr) -> bool) -> Usable {
    let among = |local: bool| {
        let of = |state| endpoints(entry, port, family, state, local);
        let ready = of(State::Ready);
        if ready.is_empty() {
            of(State::Ending)
        } else {
            ready
        }
    };
    Usable {
        all: among(false),
        local: among(true),
    }
}

fn endpoints(
    entry: &Entry,
    port: &ServicePort,
    family: fn(&IpAddr) -> bool,
    state: State,
    local_only: bool,
) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for (_, slice) in &entry.slices {
        let ports = slice
            .ports
            .iter()
            .filter(|p| p.name == port.name && p.protocol == port.protocol);
        for slice_port in ports {
            let usable = slice
                .endpoints
                .iter()
                .filter(|e| e.state == state && family(&e.ip) && (e.local || !local_only));
            found.extend(usable.map(|e| Endpoint {
                ip: e.ip,
                port: slice_port.port,
                local: e.local,
            }));
        }
    }
    // A slice may be listed under an old and a new name at once.
    found.sort_unstable();
    found.dedup_by_key(|endpoint| (endpoint.ip, endpoint.port));
    found
}
