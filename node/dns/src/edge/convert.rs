//! From API objects to the model; pure.

use std::net::IpAddr;
use std::num::NonZeroU16;

use kube::Resource;

use super::objects::{EndpointObject, PortObject, ServiceObject, SliceObject};
use crate::model::{Addresses, Endpoint, Port, Protocol, Service, Slice};

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// `namespace/name`.
pub(super) fn name<K: Resource>(object: &K) -> String {
    let meta = object.meta();
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&meta.namespace), part(&meta.name))
}

/// What names are made of.
pub(super) fn service(object: &ServiceObject) -> Service {
    let spec = &object.spec;
    let ports = spec.ports.iter().flatten().filter_map(port);
    if spec.kind.as_deref() == Some("ExternalName") {
        let name = spec.external_name.as_deref().unwrap_or_default();
        return Service::new(Addresses::External(name.into()), ports);
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        return Service::new(Addresses::Headless, ports);
    }
    let all = spec.cluster_ips.as_ref().filter(|ips| !ips.is_empty());
    let texts = all.map_or_else(
        || spec.cluster_ip.iter().collect(),
        |ips| ips.iter().collect::<Vec<_>>(),
    );
    let ips = texts.into_iter().filter_map(|text| text.parse().ok());
    Service::new(Addresses::Cluster(ips.collect()), ports)
}

/// The Service that a slice belongs to, and its ready endpoints; none for those of host names.
pub(super) fn slice(object: &SliceObject) -> Option<(String, Slice)> {
    if object.address_type == "FQDN" {
        return None;
    }
    let service = object.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let ports = object.ports.iter().flatten().filter_map(port);
    let endpoints = object.endpoints.iter().flatten().flat_map(ready);
    Some((format!("{namespace}/{service}"), Slice::new(ports, endpoints)))
}

/// An endpoint that does not say so is ready.
fn ready(object: &EndpointObject) -> impl Iterator<Item = Endpoint> + '_ {
    let ready = object.conditions.as_ref().and_then(|conditions| conditions.ready);
    let addresses = object.addresses.iter().filter(move |_| ready != Some(false));
    addresses
        .filter_map(|text| text.parse::<IpAddr>().ok())
        .map(|ip| Endpoint::new(ip, object.hostname.as_deref().filter(|name| !name.is_empty())))
}

fn port(object: &PortObject) -> Option<Port> {
    let number = object.port.and_then(|port| u16::try_from(port).ok());
    Some(Port {
        name: object.name.as_deref().unwrap_or_default().into(),
        protocol: Protocol::from_name(object.protocol.as_deref())?,
        number: number.and_then(NonZeroU16::new),
    })
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn object<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("it has the object's shape")
    }

    fn service_of(spec: Value) -> Service {
        service(&object(
            json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec}),
        ))
    }

    #[test]
    fn a_service_is_its_addresses_its_endpoints_or_another_name() {
        let ips =
            |spec: Value| -> Vec<String> { service_of(spec).ips().iter().map(ToString::to_string).collect() };
        let both = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]});
        assert_eq!(ips(both), ["10.0.0.1", "fd00::1"]);
        assert_eq!(ips(json!({"clusterIP": "10.0.0.1"})), ["10.0.0.1"]);
        assert_eq!(ips(json!({"type": "ClusterIP", "clusterIP": ""})), [""; 0]);
        let headless = service_of(json!({"clusterIP": "None", "clusterIPs": ["None"]}));
        assert_eq!(headless.addresses, Addresses::Headless);
        let other = service_of(json!({"type": "ExternalName", "externalName": "a.example"}));
        assert_eq!(other.addresses, Addresses::External("a.example".into()));
        let ports = json!([{"name": "a", "port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"},
                           {"port": 1, "protocol": "QUIC"}]);
        let ports = service_of(json!({"clusterIP": "10.0.0.1", "ports": ports})).ports;
        let shown: Vec<_> = ports
            .iter()
            .map(|p| (&*p.name, p.protocol, p.number.map(NonZeroU16::get)))
            .collect();
        assert_eq!(
            shown,
            [("a", Protocol::Tcp, Some(80)), ("", Protocol::Udp, Some(53))]
        );
    }

    #[test]
    fn a_slice_is_its_ready_endpoints() {
        let of = |kind: &str, labels: Value| {
            let endpoints = json!([
                {"addresses": ["10.1.0.1"], "conditions": {"ready": true}, "hostname": "a-0"},
                {"addresses": ["10.1.0.2"], "conditions": {"ready": false, "serving": true}},
                {"addresses": ["10.1.0.3"], "hostname": ""},
                {"addresses": ["10.1.0.4"], "conditions": {}},
            ]);
            slice(&object(json!({
                "metadata": {"name": "web-x", "namespace": "ns", "labels": labels}, "addressType": kind,
                "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "any"}],
            })))
        };
        let owner = json!({"kubernetes.io/service-name": "web"});
        let (service, slice) = of("IPv4", owner.clone()).expect("it belongs to a service");
        assert_eq!(service, "ns/web");
        let labels: Vec<String> = slice.endpoints.iter().map(Endpoint::label).collect();
        assert_eq!(labels, ["a-0", "10-1-0-3", "10-1-0-4"]);
        assert_eq!(
            slice.ports.iter().map(|p| p.number.is_some()).collect::<Vec<_>>(),
            [true, false]
        );
        assert_eq!(of("FQDN", owner), None);
        assert_eq!(of("IPv4", json!({})), None);
    }
}
