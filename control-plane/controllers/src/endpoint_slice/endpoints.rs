//! The older Endpoints object: all members in one, by their addresses of the service's primary family; pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Service,
};
use kube::api::ObjectMeta;

use super::members::{Member, Port, families};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Whether this controller made the object.
pub(super) fn is_ours(endpoints: &Endpoints) -> bool {
    endpoints
        .metadata
        .labels
        .as_ref()
        .and_then(|l| l.get(MANAGED_BY))
        .is_some_and(|m| m == MANAGER)
}

/// The object as it should be; nothing if it is.
pub(super) fn plan(service: &Service, members: &[Member], existing: Option<&Endpoints>) -> Option<Endpoints> {
    let family = families(service).first().copied().unwrap_or_default();
    let subsets = subsets(members, family);
    let labels = labels(service);
    if let Some(there) = existing
        && there.subsets.clone().unwrap_or_default() == subsets
        && there.metadata.labels.as_ref() == Some(&labels)
    {
        return None;
    }
    let mut wanted = existing.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            ..ObjectMeta::default()
        },
        ..Endpoints::default()
    });
    wanted.metadata.labels = Some(labels);
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    Some(wanted)
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels
}

fn subsets(members: &[Member], family: &str) -> Vec<EndpointSubset> {
    let mut groups = BTreeMap::<&Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)>::new();
    for m in members.iter().filter(|m| !m.terminating || m.ready) {
        let Some(ip) = m.address(family) else { continue };
        let (ready, waiting) = groups.entry(&m.ports).or_default();
        let list = if m.ready { ready } else { waiting };
        list.push(address(m, ip));
    }
    let some = |v: Vec<EndpointAddress>| (!v.is_empty()).then_some(v);
    let subset = |(ports, (ready, waiting)): (&Vec<Port>, (Vec<_>, Vec<_>))| EndpointSubset {
        addresses: some(ready),
        not_ready_addresses: some(waiting),
        ports: (!ports.is_empty()).then(|| ports.iter().map(port).collect()),
    };
    groups.into_iter().map(subset).collect()
}

fn port(p: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(p.name.clone()).filter(|n| !n.is_empty()),
        port: p.port,
        protocol: Some(p.protocol.clone()),
        app_protocol: p.app_protocol.clone(),
    }
}

fn address(m: &Member, ip: IpAddr) -> EndpointAddress {
    let reference = ObjectReference {
        kind: Some("Pod".into()),
        namespace: Some(m.namespace.clone()),
        name: Some(m.name.clone()),
        uid: Some(m.uid.clone()),
        ..ObjectReference::default()
    };
    EndpointAddress {
        ip: ip.to_string(),
        hostname: m.hostname.clone(),
        node_name: m.node.clone(),
        target_ref: Some(reference),
    }
}
