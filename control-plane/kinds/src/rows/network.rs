//! Services, endpoints and network policies.
use super::{BASE, STATUS};
use crate::cells::{AGE, NAME, column, network};
use crate::kind::{Kind, SelectableField, Storage};
use crate::strategies::{self, services};

pub(super) static SERVICE: Kind = Kind {
    kind: "Service",
    list_kind: "ServiceList",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[STATUS],
    storage: Storage::Stored("services"),
    selectable: &[
        SelectableField::text("spec.clusterIP", "/spec/clusterIP"),
        SelectableField::text("spec.type", "/spec/type"),
    ],
    columns: &[
        NAME,
        column("Type", "string", 0, network::service_type),
        column("Cluster-IP", "string", 0, network::cluster_ip),
        column("External-IP", "string", 0, network::external_ip),
        column("Port(s)", "string", 0, network::ports),
        AGE,
        column("Selector", "string", 1, network::selector),
    ],
    strategy: &services::Services,
    ..BASE
};

pub(super) static ENDPOINTS: Kind = Kind {
    kind: "Endpoints",
    list_kind: "EndpointsList",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    storage: Storage::Stored("endpoints"),
    columns: &[NAME, column("Endpoints", "string", 0, network::endpoints), AGE],
    strategy: &strategies::network::Endpoints,
    ..BASE
};

pub(super) static ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    list_kind: "EndpointSliceList",
    plural: "endpointslices",
    singular: "endpointslice",
    storage: Storage::Stored("endpointslices"),
    columns: &[
        NAME,
        column("AddressType", "string", 0, network::address_type),
        column("Ports", "string", 0, network::slice_ports),
        column("Endpoints", "string", 0, network::slice_endpoints),
        AGE,
    ],
    strategy: &strategies::network::EndpointSlices,
    ..BASE
};

pub(super) static NETWORK_POLICY: Kind = Kind {
    group: "networking.k8s.io",
    kind: "NetworkPolicy",
    list_kind: "NetworkPolicyList",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    storage: Storage::Stored("networkpolicies"),
    columns: &[
        NAME,
        column("Pod-Selector", "string", 0, network::pod_selector),
        AGE,
    ],
    strategy: &strategies::network::NetworkPolicies,
    ..BASE
};
