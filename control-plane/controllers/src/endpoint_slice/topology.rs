//! For whose clients an endpoint is meant (`spec.trafficDistribution`); pure
//! (upstream: staging/src/k8s.io/endpointslice/trafficdist).

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{EndpointHints, ForNode, ForZone};

use super::members::Member;

const ZONE: &str = "topology.kubernetes.io/zone";

/// The zone that a node says it is in.
pub(super) fn zone(node: &Node) -> Option<String> {
    let labels = node.metadata.labels.as_ref()?;
    labels.get(ZONE).filter(|zone| !zone.is_empty()).cloned()
}

/// How a service's clients are to be spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distribution {
    /// Over all endpoints.
    Even,
    /// To those of the client's zone (`PreferSameZone`, and `PreferClose`, its older name).
    SameZone,
    /// To those of the client's node, then of its zone (`PreferSameNode`).
    SameNode,
}

impl Distribution {
    pub fn of(service: &Service) -> Self {
        let spec = service.spec.as_ref();
        match spec.and_then(|s| s.traffic_distribution.as_deref()) {
            Some("PreferSameZone" | "PreferClose") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::Even,
        }
    }

    /// The hints of an endpoint; one that isn't ready gets none.
    pub fn hints(self, member: &Member) -> Option<EndpointHints> {
        if self == Self::Even || !member.ready {
            return None;
        }
        let zones = member.zone.clone().map(|name| vec![ForZone { name }]);
        let node = member.node.clone().filter(|_| self == Self::SameNode);
        let nodes = node.map(|name| vec![ForNode { name }]);
        (zones.is_some() || nodes.is_some()).then_some(EndpointHints {
            for_zones: zones,
            for_nodes: nodes,
        })
    }
}
