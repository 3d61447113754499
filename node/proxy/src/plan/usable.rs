use super::{Affinity, Kind, Target};
use crate::model::{Endpoint, Entry, IpFamily, Model, NodeHint, ServicePort, SliceEndpoint, State};
use crate::plan::Backends;

/// The endpoints that may get connections of one port (upstream: `CategorizeEndpoints`).
pub(crate) struct Usable {
    /// Those for clients anywhere.
    pub all: Vec<Endpoint>,
    /// Those on this node.
    pub local: Vec<Endpoint>,
}

/// Which hints are to be followed: only those that every ready endpoint has and that leave one for this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hints {
    Ignore,
    Node,
    Zone,
}

impl Usable {
    /// Ready endpoints as hints say, or, where there are none, those that are ending but still serve.
    pub fn of(model: &Model, entry: &Entry, port: &ServicePort, family: IpFamily) -> Self {
        let candidates = candidates(entry, port, family);
        let zone = model.zone();
        let hints = hints(&candidates, zone);
        let wanted = |endpoint: &SliceEndpoint| match hints {
            Hints::Ignore => true,
            Hints::Node => endpoint.for_node == NodeHint::Here,
            Hints::Zone => is_for_zone(endpoint, zone),
        };
        let among = |state, filter: &dyn Fn(&SliceEndpoint) -> bool| {
            let of_state = candidates
                .iter()
                .filter(|(endpoint, _)| endpoint.state == state && filter(endpoint));
            distinct(of_state.map(|(endpoint, port)| Endpoint {
                ip: endpoint.ip,
                port: *port,
                local: endpoint.local || endpoint.unplaced,
            }))
        };
        let or_ending = |ready: Vec<Endpoint>, filter: &dyn Fn(&SliceEndpoint) -> bool| {
            if ready.is_empty() {
                among(State::Ending, filter)
            } else {
                ready
            }
        };
        Self {
            all: or_ending(among(State::Ready, &wanted), &|_| true),
            local: or_ending(among(State::Ready, &|endpoint| endpoint.local), &|endpoint| {
                endpoint.local
            }),
        }
    }

    /// The target of a cluster address.
    pub fn internal(&self, affinity: Option<Affinity>, here: bool) -> Target {
        let endpoints = if here { &self.local } else { &self.all };
        match (endpoints.is_empty(), self.all.is_empty()) {
            (false, _) => Target::Endpoints(Backends {
                kind: Kind::Cluster,
                affinity,
                sources: None,
                here,
                endpoints: endpoints.as_slice().into(),
                kept: Box::default(),
            }),
            (true, true) => Target::Reject,
            (true, false) => Target::Drop,
        }
    }

    /// The target of an external address or a node port.
    pub fn target(&self, kind: Kind, affinity: Option<Affinity>) -> Target {
        if self.all.is_empty() {
            return Target::Reject;
        }
        let kept = if kind.keeps() { self.local.as_slice() } else { &[] };
        Target::Endpoints(Backends {
            kind,
            affinity,
            sources: None,
            here: false,
            endpoints: self.all.as_slice().into(),
            kept: kept.into(),
        })
    }
}

/// The endpoints of a port, each with the number of its port.
fn candidates<'a>(entry: &'a Entry, port: &ServicePort, family: IpFamily) -> Vec<(&'a SliceEndpoint, u16)> {
    let mut found = Vec::new();
    for (_, slice) in &entry.slices {
        let ports = slice
            .ports
            .iter()
            .filter(|p| p.name == port.name && p.protocol == port.protocol);
        for slice_port in ports {
            let of_family = slice.endpoints.iter().filter(|e| family.has(e.ip));
            found.extend(of_family.map(|endpoint| (endpoint, slice_port.port)));
        }
    }
    found
}

/// Follows hints for nodes where they can be followed, else those for zones, else none.
fn hints(candidates: &[(&SliceEndpoint, u16)], zone: Option<&str>) -> Hints {
    let ready = || {
        candidates
            .iter()
            .map(|(endpoint, _)| *endpoint)
            .filter(|endpoint| endpoint.state == State::Ready)
    };
    let hinted = |e: &SliceEndpoint| e.for_node != NodeHint::None;
    if ready().all(hinted) && ready().any(|e| e.for_node == NodeHint::Here) {
        return Hints::Node;
    }
    if ready().all(|e| e.for_zones.is_some()) && ready().any(|e| is_for_zone(e, zone)) {
        return Hints::Zone;
    }
    Hints::Ignore
}

fn is_for_zone(endpoint: &SliceEndpoint, zone: Option<&str>) -> bool {
    let zones = endpoint.for_zones.as_deref().unwrap_or_default();
    zone.is_some_and(|zone| zones.iter().any(|known| **known == *zone))
}

/// A slice may be listed under an old and a new name at once.
fn distinct(endpoints: impl Iterator<Item = Endpoint>) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = endpoints.collect();
    found.sort_unstable();
    found.dedup_by_key(|endpoint| (endpoint.ip, endpoint.port));
    found
}
