use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use super::assign::keep_order;
use super::usable::Usable;
use super::{Frontend, Kind, PLAIN_LIMIT, Place, Shape, Sticky};
use crate::model::{Endpoint, Entry, IpFamily, Model, Service, ServicePort};

/// Where the second list of a frontend's endpoints begins: those for clients outside.
pub const KEPT: u32 = 0x0100_0000;

/// Which of [`Target::lists`] a number in the map stands for, and the place there.
pub(crate) fn place_in_lists(index: u32) -> (usize, usize) {
    match index.checked_sub(KEPT) {
        None => (0, index as usize),
        Some(at) => (1, at as usize),
    }
}

/// For how long a client keeps its endpoint, and under which name it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Affinity {
    /// Seconds since its last connection.
    pub seconds: u32,
    /// The frontend of the Service's first cluster address: all frontends of a port share their clients.
    pub home: Frontend,
}

/// Where packets to a frontend go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// How they come.
    pub kind: Kind,
    /// Whether a client keeps its endpoint.
    pub affinity: Option<Affinity>,
    /// Who may come; `None` for everyone.
    pub sources: Option<Arc<[IpNet]>>,
    /// Whether the endpoints are only those on this node.
    pub here: bool,
    /// The endpoints; never empty.
    pub endpoints: Box<[Endpoint]>,
    /// The endpoints for clients outside, where [`Kind::keeps`].
    pub kept: Box<[Endpoint]>,
}

/// What becomes of packets to a frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// They are spread over endpoints.
    Endpoints(Backends),
    /// No endpoint: the client is told at once.
    Reject,
    /// Endpoints, but none that this node may use.
    Drop,
}

impl Target {
    fn backends(&self) -> Option<&Backends> {
        match self {
            Self::Endpoints(backends) => Some(backends),
            Self::Reject | Self::Drop => None,
        }
    }

    /// The endpoints, and those for clients outside.
    pub fn lists(&self) -> [&[Endpoint]; 2] {
        match self.backends() {
            Some(backends) => [&backends.endpoints, &backends.kept],
            None => [&[], &[]],
        }
    }

    /// All endpoints with their number in the map; one may come twice.
    pub fn numbered(&self) -> impl Iterator<Item = (u32, &Endpoint)> {
        let [all, kept] = self.lists();
        (0..).zip(all).chain((KEPT..).zip(kept))
    }

    /// The endpoints that do not stand at the same place in the other target.
    pub(super) fn not_in<'a>(&'a self, other: Option<&'a Self>) -> impl Iterator<Item = &'a Endpoint> {
        let others = other.map(Self::lists).unwrap_or_default();
        let stands = move |(index, endpoint): &(u32, &'a Endpoint)| {
            let (list, at) = place_in_lists(*index);
            others[list].get(at) != Some(*endpoint)
        };
        self.numbered().filter(stands).map(|(_, endpoint)| endpoint)
    }

    /// Where packets may go.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.lists().into_iter().flatten()
    }

    /// The chain that does it, if it takes one of its own.
    pub fn shape(&self) -> Option<Shape> {
        let backends = self.backends()?;
        Some(Shape {
            kind: backends.kind,
            endpoints: backends.endpoints.len() as u32,
            kept: backends.kept.len() as u32,
            sticky: match (backends.affinity, backends.here) {
                (None, _) => Sticky::No,
                (Some(affinity), false) => Sticky::Any(affinity.home),
                (Some(affinity), true) => Sticky::Here(affinity.home),
            },
            sources: backends.sources.clone(),
        })
    }

    /// The kind and the number of endpoints, where the shape [is plain](Shape::is_plain).
    pub fn plain(&self) -> Option<(Kind, u32)> {
        let backends = self.backends()?;
        let count = backends.endpoints.len() as u32;
        let bare = backends.affinity.is_none() && backends.sources.is_none();
        let plain = bare && !backends.kind.keeps() && count < PLAIN_LIMIT;
        plain.then_some((backends.kind, count))
    }

    /// Whether and how a client keeps its endpoint, if it gets one.
    pub fn affinity(&self) -> Option<Affinity> {
        self.backends()?.affinity
    }

    pub(super) fn keep_order(&mut self, before: [&[Endpoint]; 2]) {
        if let Self::Endpoints(backends) = self {
            keep_order(before[0], &mut backends.endpoints);
            keep_order(before[1], &mut backends.kept);
        }
    }
}

/// The frontends of a Service in one family, with their targets.
pub fn targets(model: &Model, service: &str, family: IpFamily) -> BTreeMap<Frontend, Target> {
    let mut targets = BTreeMap::new();
    let Some(entry) = model.get(service) else {
        return targets;
    };
    let Some(service) = &entry.service else {
        return targets;
    };
    for port in &service.ports {
        port_targets(model, entry, (service, port), family, &mut targets);
    }
    targets
}

fn port_targets(
    model: &Model,
    entry: &Entry,
    (service, port): (&Service, &ServicePort),
    family: IpFamily,
    targets: &mut BTreeMap<Frontend, Target>,
) {
    let mut cluster_ips = service
        .cluster_ips
        .iter()
        .filter(|ip| family.has(**ip))
        .peekable();
    let Some(first) = cluster_ips.peek() else { return };
    let frontend = |place, port_number| Frontend {
        place,
        protocol: port.protocol,
        port: port_number,
    };
    let home = frontend(Place::Address(**first), port.port);
    let affinity = service.affinity.map(|seconds| Affinity { seconds, home });
    let usable = Usable::of(model, entry, port, family);
    let external = |local: bool, kinds: [Kind; 2]| usable.target(kinds[usize::from(local)], affinity);
    for address in cluster_ips {
        let target = usable.internal(affinity, service.internal_local);
        targets.insert(frontend(Place::Address(*address), port.port), target);
    }
    let kinds = [Kind::External, Kind::ExternalLocal];
    for address in service.external_ips.iter().filter(|ip| family.has(**ip)) {
        let target = external(service.external_local, kinds);
        targets.insert(frontend(Place::Address(*address), port.port), target);
    }
    for address in service.balancer_ips.iter().filter(|ip| family.has(**ip)) {
        let mut target = external(service.external_local, kinds);
        if let Target::Endpoints(backends) = &mut target {
            // Ranges of the other family alone do not concern this one.
            let mut concerned = service.sources.iter().filter(|nets| {
                let mut nets = nets.iter();
                nets.any(|net| family.has(net.addr()))
            });
            backends.sources = concerned.next().cloned();
        }
        targets.insert(frontend(Place::Address(*address), port.port), target);
    }
    if port.node_port != 0 {
        let target = external(service.external_local, [Kind::Node, Kind::NodeLocal]);
        targets.insert(frontend(Place::Node, port.node_port), target);
    }
}
