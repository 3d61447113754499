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
