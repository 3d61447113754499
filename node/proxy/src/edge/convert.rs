//! From API objects to the model; pure.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use kube::Resource;

use super::objects::{
    Conditions, EndpointObject, ServiceObject, ServicePortObject, SliceObject, SlicePortObject,
};
use crate::model::{NodeHint, Protocol, Service, ServicePort, Slice, SliceEndpoint, SlicePort, State};

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const DEFAULT_AFFINITY_SECONDS: u32 = 10800;

/// `namespace/name`.
pub(super) fn name<K: Resource>(object: &K) -> String {
    let meta = object.meta();
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&meta.namespace), part(&meta.name))
}

/// What the model keeps of a Service; `None` for one without addresses of its own.
pub(super) fn service(object: &ServiceObject) -> Option<Service> {
    let spec = &object.spec;
    if spec.kind.as_deref() == Some("ExternalName") {
        return None;
    }
    let listed = spec.cluster_ips.as_deref().filter(|ips| !ips.is_empty());
    let cluster_ips = addresses(listed.unwrap_or(spec.cluster_ip.as_slice()));
    if cluster_ips.is_empty() {
        return None;
    }
    let ingress = object
        .status
        .load_balancer
        .iter()
        .flat_map(|lb| lb.ingress.iter().flatten());
    // With mode Proxy the load balancer wants the packets itself.
    let ingress = ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    let balancer: Vec<String> = ingress.filter_map(|ingress| ingress.ip.clone()).collect();
    let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    Some(Service {
        cluster_ips,
        external_ips: addresses(spec.external_ips.as_deref().unwrap_or_default()),
        balancer_ips: addresses(&balancer),
        sources: sources(spec.load_balancer_source_ranges.as_deref().unwrap_or_default()),
        ports: spec.ports.iter().flatten().filter_map(service_port).collect(),
        affinity: affinity(object),
        external_local: local(&spec.external_traffic_policy),
        internal_local: local(&spec.internal_traffic_policy),
        health_check_port: spec
            .health_check_node_port
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_default(),
    })
}

/// The networks that may use the load balancer; who writes one that is none means nobody by it.
fn sources(texts: &[String]) -> Option<Arc<[IpNet]>> {
    let nets = texts.iter().filter_map(|text| text.trim().parse().ok()).collect();
    (!texts.is_empty()).then_some(nets)
}

/// Those that are addresses: `None` and the empty string stand for no address.
fn addresses(texts: &[String]) -> Box<[IpAddr]> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn affinity(object: &ServiceObject) -> Option<u32> {
    if object.spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = object
        .spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref());
    let seconds = config
        .and_then(|config| config.timeout_seconds)
        .and_then(|seconds| u32::try_from(seconds).ok());
    Some(
        seconds
            .filter(|seconds| *seconds > 0)
            .unwrap_or(DEFAULT_AFFINITY_SECONDS),
    )
}

fn service_port(port: &ServicePortObject) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.as_deref().unwrap_or_default().into(),
        protocol: Protocol::from_name(port.protocol.as_deref())?,
        port: u16::try_from(port.port).ok().filter(|port| *port > 0)?,
        node_port: port
            .node_port
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_default(),
    })
}

/// The Service that a slice belongs to and what the model keeps of it; `None` for one of host names or of nobody.
pub(super) fn slice(object: &SliceObject, node_name: &str) -> Option<(String, Slice)> {
    let service = object.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    if !matches!(object.address_type.as_str(), "IPv4" | "IPv6") {
        return None;
    }
    let owner = format!(
        "{}/{service}",
        object.metadata.namespace.as_deref().unwrap_or_default()
    );
    let slice = Slice {
        ports: object.ports.iter().flatten().filter_map(slice_port).collect(),
        endpoints: object
            .endpoints
            .iter()
            .flatten()
            .filter_map(|one| slice_endpoint(one, node_name))
            .collect(),
    };
    Some((owner, slice))
}

fn slice_port(port: &SlicePortObject) -> Option<SlicePort> {
    Some(SlicePort {
        name: port.name.as_deref().unwrap_or_default().into(),
        protocol: Protocol::from_name(port.protocol.as_deref())?,
        port: u16::try_from(port.port?).ok().filter(|port| *port > 0)?,
    })
}

fn slice_endpoint(endpoint: &EndpointObject, node_name: &str) -> Option<SliceEndpoint> {
    let hints = endpoint.hints.as_ref();
    let nodes = hints
        .and_then(|hints| hints.for_nodes.as_deref())
        .unwrap_or_default();
    let zones = hints
        .and_then(|hints| hints.for_zones.as_deref())
        .unwrap_or_default();
    let for_node = match (nodes, nodes.iter().any(|node| *node.name == *node_name)) {
        ([], _) => NodeHint::None,
        (_, true) => NodeHint::Here,
        (_, false) => NodeHint::Elsewhere,
    };
    let for_zones = (!zones.is_empty()).then(|| zones.iter().map(|zone| zone.name.clone()).collect());
    Some(SliceEndpoint {
        ip: endpoint.addresses.first()?.parse().ok()?,
        state: state(endpoint.conditions.as_ref())?,
        local: endpoint.node_name.as_deref() == Some(node_name),
        unplaced: endpoint.node_name.is_none(),
        for_node,
        for_zones,
    })
}

/// Absent conditions mean ready; `serving` stands for `ready` of an endpoint that is ending.
fn state(conditions: Option<&Conditions>) -> Option<State> {
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    match (ready, serving && terminating) {
        (true, _) => Some(State::Ready),
        (false, true) => Some(State::Ending),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
        serde_json::from_value(json).expect("an object")
    }

    #[test]
    fn a_service_keeps_what_decides_about_packets() {
        let object = parse(serde_json::json!({
            "metadata": {"name": "web", "namespace": "a", "managedFields": [{"manager": "x", "fieldsV1": {}}]},
            "spec": {
                "type": "NodePort", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00::10"],
                "externalIPs": ["192.0.2.7"], "healthCheckNodePort": 30999,
                "loadBalancerSourceRanges": ["203.0.113.0/24", " 2001:db8::/32"], "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local",
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080},
                          {"name": "odd", "protocol": "DCCP", "port": 81}]
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}, {"ip": "198.51.100.2", "ipMode": "Proxy"}]}}
        }));
        let service = service(&object).expect("a service with addresses");
        assert_eq!(name(&object), "a/web");
        assert_eq!(service.cluster_ips.len(), 2);
        let ip = |text: &str| text.parse::<IpAddr>().expect("ip");
        assert_eq!(service.external_ips.as_ref(), [ip("192.0.2.7")]);
        assert_eq!(
            service.balancer_ips.as_ref(),
            [ip("198.51.100.1")],
            "with mode Proxy the balancer wants the packets"
        );
        let nets: Vec<String> = service
            .sources
            .iter()
            .flat_map(|nets| nets.iter().map(ToString::to_string))
            .collect();
        assert_eq!(nets, ["203.0.113.0/24", "2001:db8::/32"]);
        assert_eq!(service.health_check_port, 30999);
        assert_eq!(service.ports.len(), 1, "an unknown protocol is left out");
        assert_eq!((service.ports[0].port, service.ports[0].node_port), (80, 30080));
        assert_eq!(
            (service.affinity, service.external_local, service.internal_local),
            (Some(10800), true, false)
        );
    }

    #[test]
    fn headless_and_external_name_have_no_frontends() {
        for spec in [
            serde_json::json!({"clusterIP": "None", "clusterIPs": ["None"]}),
            serde_json::json!({"type": "ExternalName", "externalName": "example.org"}),
            serde_json::json!({}),
        ] {
            let object =
                parse(serde_json::json!({"metadata": {"name": "x", "namespace": "a"}, "spec": spec}));
            assert_eq!(service(&object), None, "{object:?}");
        }
    }

    #[test]
    fn endpoints_are_sorted_by_their_conditions() {
        let object = parse(serde_json::json!({
            "metadata": {"name": "web-1", "namespace": "a", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "nodeName": "n1"},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}, "nodeName": "n1"},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.0.0.4"], "conditions": {"ready": true}, "nodeName": "n2"}
            ]
        }));
        let (owner, slice) = slice(&object, "n1").expect("a slice of a service");
        assert_eq!(owner, "a/web");
        let found: Vec<(String, State, bool)> = slice
            .endpoints
            .iter()
            .map(|e| (e.ip.to_string(), e.state, e.local))
            .collect();
        assert_eq!(
            found,
            [
                ("10.0.0.1".to_owned(), State::Ready, true),
                ("10.0.0.3".to_owned(), State::Ending, false),
                ("10.0.0.4".to_owned(), State::Ready, false)
            ]
        );
    }
}
